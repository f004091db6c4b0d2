"""Writes results as a .parquet file, in row groups of equal size."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from statewise.client import TensorInfo

_GROUP_ROWS = 4096
_GROUP_BYTES = 256 * 1024 * 1024


class Row(NamedTuple):
    """One row: `text` is its label or text, `outputs` are its arrays by name."""

    id: Any
    file: str
    error: str
    text: str
    outputs: dict[str, Any]


def write_parquet(
    path: Path,
    outputs: Sequence[TensorInfo],
    rows: Iterable[Row],
    *,
    timed: Collection[str],
    integer_ids: bool,
    names_files: bool,
) -> None:
    """Writes the columns `id`, `file` if asked for, `error` and the outputs.

    Args:
        path: Path of the file.
        outputs: Outputs of the model; empty if outputs are labels or texts.
        rows: The rows, in order.
        timed: Names of the outputs with a time axis.
        integer_ids: Ids are integers; otherwise they are written as text.
        names_files: The column `file` is written.
    """
    import pyarrow.parquet as pq

    def table(group: list[Row]) -> Any:
        return _table(outputs, group, timed=timed, integer_ids=integer_ids, names_files=names_files)

    with pq.ParquetWriter(path, table([]).schema) as writer:
        for group in _groups(rows):
            writer.write_table(table(group), row_group_size=len(group))


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(value.nbytes for value in row.outputs.values())
        if len(group) == _GROUP_ROWS or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _table(
    outputs: Sequence[TensorInfo],
    rows: Sequence[Row],
    *,
    timed: Collection[str],
    integer_ids: bool,
    names_files: bool,
) -> Any:
    import pyarrow as pa

    failed = np.array([bool(row.error) for row in rows], np.bool_)
    ids = [row.id if integer_ids else _text(row.id) for row in rows]
    columns = {"id": pa.array(ids, pa.int64() if integer_ids else pa.string())}
    if names_files:
        columns["file"] = pa.array([row.file for row in rows], pa.string())
    columns["error"] = pa.array([row.error or None for row in rows], pa.string())
    if not outputs:
        texts = [None if row.error else row.text for row in rows]
        columns["outputs"] = pa.array(texts, pa.string())
    for spec in outputs:
        name = "outputs" if len(outputs) == 1 else f"outputs.{spec.name}"
        arrays = [row.outputs[spec.name] for row in rows]
        columns[name] = _column(spec, arrays, failed, timed=spec.name in timed)
    return pa.table(columns)


def _text(value: Any) -> str:
    return str(value).encode(errors="backslashreplace").decode()  # half of a surrogate pair is no UTF-8


def _column(spec: TensorInfo, arrays: Sequence[Any], failed: Any, *, timed: bool) -> Any:
    """Converts arrays of equal rank to nested lists without creating a Python object for each number."""
    import pyarrow as pa

    shape = (0, *spec.shape) if timed else spec.shape
    if not shape:
        return pa.array(np.array(arrays, spec.dtype), mask=failed)
    flat = np.concatenate([np.empty(0, spec.dtype), *[array.reshape(-1) for array in arrays]])
    values = pa.array(flat)
    # All axes but the first have the model's sizes; they become lists from the innermost outwards.
    for size in reversed(shape[1:]):
        ends = np.arange(0, len(values) + 1, size)
        values = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values)
    offsets = np.concatenate([[0], np.cumsum([len(array) for array in arrays])])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, mask=pa.array(failed, pa.bool_()))
