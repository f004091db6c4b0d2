"""Reads sequences from .csv files: a header, then a row a time step, as `statewise train` reads them.

A cell that is no number spoils its sequence, not the others. The numbers of a file are in memory at once,
because the rows of a sequence may be anywhere in it.
"""

import csv
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from statewise.client.bulk._file_row import FileRow
from statewise.client.values import InvalidInput, ModelInfo

_MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none", "?", "-"})
"""What programs write for a missing value, in lower case; as in training."""
_ID = "id"
_MOST_NAMES = 12  # names of columns that a message lists


@dataclass(frozen=True, slots=True)
class CsvLayout:
    """Which columns of a .csv are inputs, and which rows are a sequence.

    Attributes:
        sequence: column whose cells are equal in all rows of a sequence, and are its id; empty: every row is
            a sequence; None: the column `id`, or the whole file is a sequence if it has none.
        columns: columns of the inputs, in order; empty: all but that of `sequence`.
    """

    sequence: str | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CsvSteps:
    """The rows of one sequence: values [T, columns] and the names of the columns."""

    values: NDArray[np.float64]
    names: tuple[str, ...]

    def for_model(self, model: ModelInfo) -> NDArray[Any]:
        """Returns the values in the shape and kind of number of the model's input.

        Raises:
            InvalidInput: they have another number of columns, or the model takes one row and these are
                several, or it takes integers and these are none.
        """
        required = [spec for spec in model.inputs if spec.default is None] or list(model.inputs)
        if len(required) != 1:
            names = [spec.name for spec in required]
            raise InvalidInput(f"a .csv holds one input; the model takes {names}")
        (spec,) = required
        values: NDArray[Any] = self.values
        width = math.prod(spec.shape)
        if values.shape[1] != width:
            raise InvalidInput(
                f"input {spec.name!r}: expected {width} columns; got {values.shape[1]}: "
                f"{_listed(self.names)}; columns= chooses"
            )
        if not spec.per_step and len(values) != 1:
            raise InvalidInput(
                f"input {spec.name!r}: expected one row, because the model has no time axis; "
                f'got {len(values)}; sequence="" makes every row a sample'
            )
        values = values.reshape(-1, *spec.shape)
        if np.dtype(spec.dtype).kind in "iu":
            whole = values.astype(np.int64)
            if not np.array_equal(whole, values):
                raise InvalidInput(f"input {spec.name!r}: expected {spec.dtype} numbers; got others")
            values = whole
        return values if spec.per_step else values[0]


class CsvFile:
    """A .csv file of sequences.

    Raises:
        InvalidInput: by its methods; the file has no header, or not the columns of the layout.
        OSError: by its methods; the file cannot be read.
    """

    def __init__(self, path: Path, layout: CsvLayout) -> None:
        self._path = path
        self._layout = layout

    def count(self) -> int:
        """Counts the sequences; parses the file."""
        return sum(1 for _ in self.rows(0))

    def rows(self, start: int) -> Iterator[FileRow]:
        """Yields the sequences in the order of their first rows."""
        # Letters of other encodings become halves of surrogate pairs, which are no numbers and no ids.
        with self._path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            lines = _numbered(stream)
            columns = self._columns(lines)
            first = next(lines, None)
            if first is None:
                raise InvalidInput(f"{self._path.name}: expected rows below the header; got none")
            yield from islice(columns.sequences(chain([first], lines), self._path.stem), start, None)

    def _columns(self, lines: "Iterator[tuple[int, _Cells]]") -> "_Columns":
        _, cells = next(lines, (1, ValueError("no lines")))
        if isinstance(cells, ValueError):
            raise InvalidInput(f"{self._path.name}: expected a header, the names of the columns; got {cells}")
        header = [" ".join(name.split()) for name in cells]
        if any("\0" in name or not _is_text(name) for name in header):
            raise InvalidInput(f"{self._path.name}: expected UTF-8 text; got another encoding")
        sequence = self._layout.sequence
        if sequence is None:
            sequence = _ID if _ID in header else None
        names = [*self._layout.columns] or [name for name in header if name != sequence]
        if not self._layout.columns and all(map(_is_number, header)):
            raise InvalidInput(
                f"{self._path.name}: expected a header, the names of the columns; got the numbers "
                f"{_listed(header)}; if they are names, give them as columns="
            )
        for name in [*names, *([sequence] if sequence else [])]:
            if header.count(name) != 1 or not name:
                found = "has no name" if not name else f"is there {header.count(name)} times"
                raise InvalidInput(
                    f"{self._path.name}: expected each column once; {name!r} {found} in {_listed(header)}"
                )
        return _Columns(
            tuple(header),
            tuple(names),
            tuple(header.index(name) for name in names),
            header.index(sequence) if sequence else None,
            by_row=sequence == "",
        )


_Cells = Sequence[str] | ValueError
"""The cells of a row, or why it is none."""


@dataclass(slots=True)
class _Sequence:
    """The numbers of one sequence, or why it cannot be read."""

    line: int
    """Where it begins, or where the error is."""
    values: "array[float]"
    error: InvalidInput | None = None


@dataclass(frozen=True, slots=True)
class _Columns:
    """Finds the id and the numbers of a row among its cells."""

    header: tuple[str, ...]
    names: tuple[str, ...]
    indices: tuple[int, ...]
    id_index: int | None
    by_row: bool

    def sequences(self, lines: Iterator[tuple[int, _Cells]], whole: str) -> Iterator[FileRow]:
        """Yields the sequences; `whole` is the id of the only one, if no column holds ids."""
        found: dict[object, _Sequence] = {}
        for line, cells in lines:
            key: object = whole if self.id_index is None and not self.by_row else line
            values: list[float] = []
            error = None
            try:
                if isinstance(cells, ValueError) or len(cells) != len(self.header):
                    raise self._misfit(cells)
                if self.id_index is not None:
                    key = self._id(cells[self.id_index])
                values = self._numbers(cells)
            except InvalidInput as caught:
                error = caught
            sequence = found.setdefault(key, _Sequence(line, array("d")))
            sequence.values.extend(values)
            if error is not None and sequence.error is None:
                sequence.line, sequence.error = line, error
            if self.by_row:
                yield self._row(None, found.pop(key))
        for key, sequence in found.items():
            yield self._row(key if isinstance(key, str) else None, sequence)

    def _row(self, row_id: str | None, sequence: _Sequence) -> FileRow:
        if sequence.error is not None:
            return FileRow(row_id, sequence.error, sequence.line)
        values = np.frombuffer(sequence.values).reshape(-1, len(self.names))
        return FileRow(row_id, CsvSteps(values, self.names), sequence.line)

    def _id(self, cell: str) -> str:
        cell = cell.strip()
        if not cell or not _is_text(cell):
            name = self.header[self.id_index or 0]
            raise InvalidInput(f"{name}: expected a text in UTF-8; got {cell!r}")
        return cell

    def _numbers(self, cells: Sequence[str]) -> list[float]:
        try:
            values = [float(cells[index]) for index in self.indices]
        except ValueError:
            values = [math.nan]
        if not math.isfinite(sum(values)):
            values = [
                _number(cells[index], name) for index, name in zip(self.indices, self.names, strict=True)
            ]
        return values

    def _misfit(self, cells: _Cells) -> InvalidInput:
        if isinstance(cells, ValueError):
            return InvalidInput(f"expected a row of a csv: {cells}")
        text = "".join(self.header)
        signs = {";": "semicolons", "\t": "tabs"} if len(self.header) == 1 else {}
        hint = next(
            (f"; columns must be separated by commas, not {signs[s]}" for s in signs if s in text), ""
        )
        return InvalidInput(f"expected {len(self.header)} cells as in the header; got {len(cells)}{hint}")


def _numbered(stream: IO[str]) -> Iterator[tuple[int, _Cells]]:
    """Yields the line at which each row begins, and its cells; blank lines are skipped."""
    reader = csv.reader(stream, strict=True)
    begin = 1
    while True:
        cells: _Cells | None
        try:
            cells = next(reader, None)
        except csv.Error as error:
            cells = ValueError(str(error))
        if cells is None:
            return
        if isinstance(cells, ValueError) or len(cells) > 1 or "".join(cells).strip():
            yield begin, cells
        begin = reader.line_num + 1


def _number(cell: str, name: str) -> float:
    if cell.strip().lower() in _MISSING:
        raise InvalidInput(f"{name}: expected a number; a value is missing: {cell!r}")
    try:
        number = float(cell)
    except ValueError:
        raise InvalidInput(f"{name}: expected a number; got {cell[:40]!r}") from None
    if not math.isfinite(number):
        raise InvalidInput(f"{name}: expected a finite number; got {cell!r}")
    return number


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_text(text: str) -> bool:
    return text.isprintable() or text.encode(errors="replace").decode() == text


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
