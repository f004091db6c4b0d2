"""Results of a bulk run as files: .jsonl, .npz and .parquet.

A format packs results into the payload of a frame, and later writes all frames as one file. The file depends
on the results alone, not on how they were cut into frames, so a run that was interrupted ends with the same
bytes.

- .jsonl: `{"id": ..., "outputs": ...}` a line, or `{"id": ..., "error": "..."}`.
- .npz: `ids` [N], `errors` [N] (empty where a row succeeded), `outputs` [N, ...], or with `lengths` [N]
  [sum(lengths), ...] where the model gives an output a step; `outputs.NAME` each where it has several. Rows
  that failed have length 0, or NaN.
- .parquet: `id`, `error` and `outputs` (or `outputs.NAME`), null where there is none.
"""

import json
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from statewise.cli._score._parquet import Row, write_parquet
from statewise.client import ModelInfo, Scored

_EPOCH = (1980, 1, 1, 0, 0, 0)  # archives hold a time; the earliest they can

Payloads = Callable[[], Iterable[bytes]]


class Format(Protocol):
    """A kind of file."""

    def pack(self, results: Sequence[Scored]) -> bytes:
        """Results as a frame's payload."""
        ...

    def write(self, path: Path, payloads: Payloads) -> None:
        """Every payload, as one file."""
        ...


def format_of(kind: str, model: ModelInfo) -> Format:
    """The format of a suffix, .jsonl, .npz or .parquet, for outputs of a model."""
    match kind:
        case ".jsonl":
            return Jsonl()
        case ".npz":
            return Npz(Columns(model))
        case _:
            return Parquet(Columns(model))


class Jsonl:
    """Frames are the lines already."""

    def pack(self, results: Sequence[Scored]) -> bytes:
        """Lines."""
        return "".join(self._line(scored) for scored in results).encode()

    def write(self, path: Path, payloads: Payloads) -> None:
        """One after another."""
        with path.open("wb") as file:
            file.writelines(payloads())

    def _line(self, scored: Scored) -> str:
        error = scored.error
        found = {"outputs": _plain(scored.outputs)} if error is None else {"error": complaint(error)}
        return json.dumps({"id": scored.id, **found}, ensure_ascii=False, default=str) + "\n"


class Frame:
    """Some rows' results.

    Attributes:
        ids: of each row.
        errors: of each row; empty where there is none.
        words: labels or texts of each row; None where outputs are arrays.
        lengths: time steps of each row's outputs; 0 where it failed.
        columns: each output by name, [sum(lengths), ...] where it has a time axis, else [rows, ...] with NaN
            (or 0) for the rows that failed.
    """

    def __init__(self, about: dict[str, Any], columns: dict[str, NDArray[Any]]) -> None:
        self.ids: list[Any] = about["ids"]
        self.errors: list[str] = about["errors"]
        self.words: list[str] | None = about["words"]
        self.lengths: list[int] = about["lengths"]
        self.columns = columns


class Columns:
    """Frames of binary columns: a line of JSON about the rows, then each output's bytes.

    Args:
        model: whose outputs they are.
    """

    def __init__(self, model: ModelInfo) -> None:
        self.outputs = model.outputs
        self.timed = frozenset(spec.name for spec in model.outputs if model.timed and spec.per_step)
        """Outputs with a time axis."""

    def pack(self, results: Sequence[Scored]) -> bytes:
        """See the class. Rows that failed have no bytes."""
        worded = any(isinstance(scored.outputs, str) for scored in results)
        arrays = [] if worded else [self._by_name(scored) for scored in results if scored.error is None]
        steps = (len(row[next(iter(self.timed))]) if self.timed else 1 for row in arrays)
        about = {
            "ids": [scored.id for scored in results],
            "errors": ["" if scored.error is None else complaint(scored.error) for scored in results],
            "words": [scored.outputs or "" for scored in results] if worded else None,
            "lengths": [0 if worded or scored.error is not None else next(steps) for scored in results],
        }
        columns = (row[spec.name].tobytes() for spec in self.outputs for row in arrays)
        return json.dumps(about, default=str).encode() + b"\n" + b"".join(columns)

    def frames(self, payloads: Iterable[bytes]) -> Iterator[Frame]:
        """What `pack` made."""
        for payload in payloads:
            line, _, data = payload.partition(b"\n")
            about = json.loads(line)
            yield Frame(about, self._columns(about, data))

    def _columns(self, about: dict[str, Any], data: bytes) -> dict[str, NDArray[Any]]:
        columns: dict[str, NDArray[Any]] = {}
        lengths = np.array(about["lengths"], np.int64)
        begin = 0
        for spec in self.outputs:
            timed = spec.name in self.timed
            count = int(lengths.sum()) if timed else int((lengths > 0).sum())
            dtype = np.dtype(spec.dtype)
            end = begin + count * dtype.itemsize * math.prod(spec.shape)
            column = np.frombuffer(data[begin:end], dtype).reshape(count, *spec.shape)
            if not timed:
                whole = np.full((len(lengths), *spec.shape), np.nan if dtype.kind == "f" else 0, dtype)
                whole[lengths > 0] = column
                column = whole
            columns[spec.name] = column
            begin = end
        return columns

    def _by_name(self, scored: Scored) -> dict[str, NDArray[Any]]:
        outputs = scored.outputs
        return outputs if isinstance(outputs, dict) else {self.outputs[0].name: outputs}


@dataclass(frozen=True)
class Totals:
    """What has to be known of all frames before a file is begun."""

    rows: int
    steps: int
    whole_ids: bool
    """Every id is an integer; otherwise ids are written as text."""
    worded: bool

    @classmethod
    def of(cls, frames: Iterable[Frame]) -> "Totals":
        """One pass."""
        rows = steps = 0
        whole_ids, worded = True, False
        for frame in frames:
            rows += len(frame.ids)
            steps += sum(frame.lengths)
            whole_ids &= all(type(name) is int for name in frame.ids)
            worded |= frame.words is not None
        return cls(rows, steps, whole_ids, worded)


class Npz:
    """An archive, its arrays written as streams."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def pack(self, results: Sequence[Scored]) -> bytes:
        """See `Columns`."""
        return self._columns.pack(results)

    def write(self, path: Path, payloads: Payloads) -> None:
        """One pass over the frames for each array."""
        columns = self._columns

        def frames() -> Iterator[Frame]:
            return columns.frames(payloads())

        totals = Totals.of(frames())
        rows = totals.rows
        with zipfile.ZipFile(path, "w") as archive:
            if totals.whole_ids:
                ids = (np.array(frame.ids, np.int64) for frame in frames())
                _write(archive, "ids", np.dtype("<i8"), (rows,), ids)
            else:
                _write_words(archive, "ids", rows, lambda: ([str(name) for name in f.ids] for f in frames()))
            _write_words(archive, "errors", rows, lambda: (frame.errors for frame in frames()))
            if totals.worded:
                _write_words(archive, "outputs", rows, lambda: (words_of(frame) for frame in frames()))
                return
            if columns.timed:
                lengths = (np.array(frame.lengths, np.int64) for frame in frames())
                _write(archive, "lengths", np.dtype("<i8"), (rows,), lengths)
            for spec in columns.outputs:
                name = "outputs" if len(columns.outputs) == 1 else f"outputs.{spec.name}"
                shape = (totals.steps if spec.name in columns.timed else rows, *spec.shape)
                arrays = (frame.columns[spec.name] for frame in frames())
                _write(archive, name, np.dtype(spec.dtype), shape, arrays)


class Parquet:
    """Row groups of equal size, whatever came together before."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def pack(self, results: Sequence[Scored]) -> bytes:
        """See `Columns`."""
        return self._columns.pack(results)

    def write(self, path: Path, payloads: Payloads) -> None:
        """See `_score_parquet`."""
        columns = self._columns
        totals = Totals.of(columns.frames(payloads()))
        outputs = () if totals.worded else columns.outputs
        rows = (row for frame in columns.frames(payloads()) for row in self._rows(frame))
        write_parquet(path, outputs, rows, timed=columns.timed, whole_ids=totals.whole_ids)

    def _rows(self, frame: Frame) -> Iterator[Row]:
        ends = np.cumsum(frame.lengths, dtype=np.int64).tolist()
        words = words_of(frame)
        for place, (name, error) in enumerate(zip(frame.ids, frame.errors, strict=True)):
            begin = ends[place] - frame.lengths[place]
            values = {
                output: column[begin : ends[place]] if output in self._columns.timed else column[place]
                for output, column in frame.columns.items()
            }
            yield name, error, words[place], values


def words_of(frame: Frame) -> list[str]:
    """Labels or texts, empty for rows that failed."""
    return frame.words if frame.words is not None else [""] * len(frame.ids)


def complaint(error: Exception) -> str:
    """An error as files hold it."""
    return f"{type(error).__name__}: {error}"


def _plain(outputs: Any) -> Any:
    if isinstance(outputs, dict):
        return {name: _plain(value) for name, value in outputs.items()}
    return outputs if isinstance(outputs, str) else outputs.tolist()


def _write(
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


def _write_words(
    archive: zipfile.ZipFile, name: str, rows: int, words: Callable[[], Iterable[list[str]]]
) -> None:
    longest = max((len(word) for part in words() for word in part), default=1)
    dtype = np.dtype(f"<U{max(longest, 1)}")
    _write(archive, name, dtype, (rows,), (np.array(part, dtype) for part in words()))
