"""Writes the results of a bulk run as .jsonl, .npz and .parquet files.

A format packs results into the payload of a log record, and at the end writes all records as one file. The
file depends on the results alone, not on how they were divided into records. So an interrupted run that is
resumed ends with the same bytes as an uninterrupted run.

- .jsonl: one line a row, `{"id": ..., "outputs": ...}` or `{"id": ..., "error": "..."}`. Numbers that are not
  finite are null, and `not_finite` counts those of the row.
- .npz: `ids` [N], `errors` [N] (empty for a row that succeeded), and `outputs` [N, ...]. If the model has an
  output for every step: `outputs` [sum(lengths), ...] with `lengths` [N]. If it has several outputs: one
  `outputs.NAME` each. Rows that failed have length 0, or NaN.
- .parquet: `id`, `error`, and `outputs` or `outputs.NAME`; null for missing values.

Where a run has several files, each row also has the path of its file: `file`, in .npz `files` [N].
"""

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from statewise.cli._score._columns import ColumnCodec, ResultBlock, Totals, error_text
from statewise.cli._score._parquet import Row, write_parquet
from statewise.cli._terminal import NOT_FINITE, LineWriter
from statewise.client import ModelInfo, Scored

_EPOCH = (1980, 1, 1, 0, 0, 0)  # earliest time that an archive can hold; a fixed time keeps the bytes equal

Payloads = Callable[[], Iterable[bytes]]
"""Reads all payloads again at each call."""


class Format(Protocol):
    """One kind of output file."""

    def pack(self, results: Sequence[Scored]) -> tuple[bytes, int]:
        """Encodes results as a record's payload; returns it and the count of numbers that are not finite."""
        ...

    def write(self, path: Path, payloads: Payloads) -> None:
        """Writes all payloads as one file."""
        ...


def format_of(suffix: str, model: ModelInfo, *, names_files: bool = False) -> Format:
    """Returns the format of a suffix (.jsonl, .npz or .parquet) for the outputs of a model.

    Args:
        suffix: Of the output file.
        model: The model that computes the outputs.
        names_files: Each row tells the file that it was read from.
    """
    match suffix:
        case ".jsonl":
            return JsonlFormat(names_files=names_files)
        case ".npz":
            return NpzFormat(ColumnCodec(model, names_files=names_files))
        case _:
            return ParquetFormat(ColumnCodec(model, names_files=names_files))


class JsonlFormat:
    """Lines of JSON; a payload already holds the lines of the file."""

    def __init__(self, *, names_files: bool) -> None:
        self._names_files = names_files
        self._lines = LineWriter()

    def pack(self, results: Sequence[Scored]) -> tuple[bytes, int]:
        """Encodes one line a row."""
        lines, total = [], 0
        for scored in results:
            about = {"id": scored.id, "file": scored.file} if self._names_files else {"id": scored.id}
            if scored.error is None:
                row = {**about, "outputs": scored.outputs}
                line, count = self._lines.line(row)
                if count:
                    line, _ = self._lines.line({**row, NOT_FINITE: count})
                    total += count
            else:
                line, _ = self._lines.line({**about, "error": error_text(scored.error)})
            lines.append(line)
        return b"".join(lines), total

    def write(self, path: Path, payloads: Payloads) -> None:
        """Writes the payloads one after another."""
        with path.open("wb") as file:
            file.writelines(payloads())


class NpzFormat:
    """An archive whose arrays are written block by block."""

    def __init__(self, codec: ColumnCodec) -> None:
        self._codec = codec

    def pack(self, results: Sequence[Scored]) -> tuple[bytes, int]:
        """Encodes results, see `ColumnCodec.pack`."""
        return self._codec.pack(results)

    def write(self, path: Path, payloads: Payloads) -> None:
        """Reads all blocks once for each array."""
        codec = self._codec

        def blocks() -> Iterator[ResultBlock]:
            return codec.blocks(payloads())

        totals = Totals.of(blocks())
        rows = totals.rows
        with zipfile.ZipFile(path, "w") as archive:
            if totals.integer_ids:
                ids = (np.array(block.ids, np.int64) for block in blocks())
                _write_array(archive, "ids", np.dtype("<i8"), (rows,), ids)
            else:
                _write_texts(
                    archive, "ids", rows, lambda: ([str(i) for i in block.ids] for block in blocks())
                )
            if codec.names_files:
                _write_texts(archive, "files", rows, lambda: (block.files for block in blocks()))
            _write_texts(archive, "errors", rows, lambda: (block.errors for block in blocks()))
            if totals.has_texts:
                _write_texts(archive, "outputs", rows, lambda: (b.texts_or_empty() for b in blocks()))
                return
            if codec.timed:
                lengths = (np.array(block.lengths, np.int64) for block in blocks())
                _write_array(archive, "lengths", np.dtype("<i8"), (rows,), lengths)
            for spec in codec.outputs:
                name = "outputs" if len(codec.outputs) == 1 else f"outputs.{spec.name}"
                shape = (totals.steps if spec.name in codec.timed else rows, *spec.shape)
                arrays = (block.columns[spec.name] for block in blocks())
                _write_array(archive, name, np.dtype(spec.dtype), shape, arrays)


class ParquetFormat:
    """A table in row groups of equal size, regardless of the records."""

    def __init__(self, codec: ColumnCodec) -> None:
        self._codec = codec

    def pack(self, results: Sequence[Scored]) -> tuple[bytes, int]:
        """Encodes results, see `ColumnCodec.pack`."""
        return self._codec.pack(results)

    def write(self, path: Path, payloads: Payloads) -> None:
        """Writes the table in two passes: one for the totals, one for the rows."""
        codec = self._codec
        totals = Totals.of(codec.blocks(payloads()))
        outputs = () if totals.has_texts else codec.outputs
        rows = (row for block in codec.blocks(payloads()) for row in self._rows(block))
        write_parquet(
            path,
            outputs,
            rows,
            timed=codec.timed,
            integer_ids=totals.integer_ids,
            names_files=codec.names_files,
        )

    def _rows(self, block: ResultBlock) -> Iterator[Row]:
        ends = np.cumsum(block.lengths, dtype=np.int64).tolist()
        texts = block.texts_or_empty()
        for index, (row_id, error) in enumerate(zip(block.ids, block.errors, strict=True)):
            begin = ends[index] - block.lengths[index]
            values = {
                output: column[begin : ends[index]] if output in self._codec.timed else column[index]
                for output, column in block.columns.items()
            }
            yield Row(row_id, block.files[index] if block.files else "", error, texts[index], values)


def _write_array(
    archive: zipfile.ZipFile,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    arrays: Iterable[NDArray[Any]],
) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for array in arrays:
            stream.write(array.astype(dtype, copy=False).tobytes())


def _write_texts(
    archive: zipfile.ZipFile, name: str, rows: int, texts: Callable[[], Iterable[list[str]]]
) -> None:
    longest = max((len(text) for part in texts() for text in part), default=1)
    dtype = np.dtype(f"<U{max(longest, 1)}")
    _write_array(archive, name, dtype, (rows,), (np.array(part, dtype) for part in texts()))
