"""Reads sequences from .parquet files: a column `inputs`, and optionally `id`.

A row of `inputs` is a list of lists (time steps of features), a list (tokens, or one time step), or a text.
For a model with several inputs there is one column `inputs.NAME` each. pyarrow is an optional dependency, so
it is imported when a file is read.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from statewise.client.bulk._file_row import FileRow
from statewise.client.values import InvalidInput

_BATCH_ROWS = 1024


class ParquetFile:
    """A .parquet file of sequences.

    Raises:
        InvalidInput: by its methods; pyarrow is missing, or the file has no such column.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def count(self) -> int:
        """Counts the rows from the file's footer."""
        with self._open() as file:
            return int(file.metadata.num_rows)

    def rows(self, start: int) -> Iterator[FileRow]:
        """Yields ids and sequences in order."""
        with self._open() as file:
            names = [
                name for name in file.schema_arrow.names if name == "inputs" or name.startswith("inputs.")
            ]
            if not names:
                raise InvalidInput(
                    f"{self._path.name}: expected a column 'inputs'; got {file.schema_arrow.names}"
                )
            named = "id" in file.schema_arrow.names
            before = 0
            for batch in file.iter_batches(_BATCH_ROWS, columns=[*names, *(["id"] if named else [])]):
                begin = max(start - before, 0)
                before += batch.num_rows
                if begin < batch.num_rows:
                    yield from _rows(batch.slice(begin), names, named=named)

    def _open(self) -> Any:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ModuleNotFoundError:
            raise InvalidInput(
                f"{self._path.name}: .parquet needs pyarrow; pip install 'statewise[parquet]'"
            ) from None
        try:
            return pq.ParquetFile(self._path)
        except pa.ArrowInvalid as error:
            raise InvalidInput(f"{self._path.name}: {error}") from None


def _rows(batch: Any, names: list[str], *, named: bool) -> Iterator[FileRow]:
    columns = [_sequences(batch.column(name)) for name in names]
    ids = batch.column("id").to_pylist() if named else [None] * batch.num_rows
    for row_id, *values in zip(ids, *columns, strict=True):
        if names == ["inputs"]:
            yield FileRow(row_id, values[0])
        else:
            yield FileRow(
                row_id,
                {name.removeprefix("inputs."): value for name, value in zip(names, values, strict=True)},
            )


def _sequences(column: Any) -> list[Any]:
    """Splits a column into its rows: views of its values if they form a regular array, else Python lists."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def is_list(kind: Any) -> bool:
        return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))

    if column.null_count or not is_list(column.type):
        return list(column.to_pylist())
    ends = column.offsets.to_numpy()
    values = column.values
    width = None
    if is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        widths = pc.list_value_length(values).to_numpy(zero_copy_only=False)
        if values.null_count or not len(widths) or (widths != widths[0]).any():
            return list(column.to_pylist())
        width = int(widths[0])
        values = values.flatten()
    if values.null_count or not pa.types.is_primitive(values.type):
        return list(column.to_pylist())
    flat = values.to_numpy(zero_copy_only=False)
    array = flat if width is None else flat.reshape(-1, width)
    return [array[begin:end] for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
