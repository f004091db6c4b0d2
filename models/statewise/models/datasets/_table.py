"""Reads a user's csv: a header of column names, then rows; every complaint names line and column."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from statewise.models.base import Array, Floats, RecipeError
from statewise.models.datasets._text_file import excerpt, read_text

_MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "?", "-"}
"""What programs write for a missing value, in lower case."""

_LARGEST = float(np.finfo(np.float32).max)
_MOST_NAMES = 12  # names of columns that a message lists


@dataclass(frozen=True)
class Table:
    """The cells of a csv.

    Attributes:
        path: The file.
        header: Names of the columns, on one line; two may be equal as long as neither is read.
        rows: The cells of each row.
        lines: The line at which each row begins.
    """

    path: Path
    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    lines: Sequence[int]

    def where(self, row: int, name: str) -> str:
        """Returns the place of a cell, for messages."""
        return f"line {self.lines[row]}, {name}"

    def require(self, names: Sequence[str]) -> None:
        """Checks that each name is that of one column.

        Raises:
            RecipeError: A name is missing from the header, or stands there twice.
        """
        for name in names:
            found = [str(index) for index, other in enumerate(self.header, 1) if other == name]
            if len(found) > 1:
                shown = f"the name {name}" if name else "no name"
                raise RecipeError(self.path, f"line 1: columns {' and '.join(found)} have {shown}")
            if not found:
                raise RecipeError(self.path, f"expected a column {name}, got {self._names()}")

    def texts(self, name: str) -> list[str]:
        """Returns the cells of a column, without spaces around them.

        Raises:
            RecipeError: The column is missing, or a cell of it is empty.
        """
        self.require([name])
        index = self.header.index(name)
        cells = [row[index].strip() for row in self.rows]
        if "" in cells:
            raise RecipeError(self.path, f"{self.where(cells.index(''), name)}: expected a text, got none")
        return cells

    def numbers(self, names: Sequence[str]) -> Floats:
        """Reads columns of numbers, [rows, names] float32; NaN where a value is missing.

        Raises:
            RecipeError: A column is missing, or a cell is neither a number nor one of the words for a missing
                value.
        """
        self.require(names)
        values = np.empty((len(self.rows), len(names)), np.float32)
        for column, name in enumerate(names):
            index = self.header.index(name)
            for row, cells in enumerate(self.rows):
                values[row, column] = self._number(cells[index], row, name)
        return values

    def times(self, name: str) -> Array:
        """Reads a column of times, [rows] float64: numbers as they are, ISO 8601 in seconds.

        Raises:
            RecipeError: The column is missing, or a cell is neither.
        """
        cells = self.texts(name)
        return np.array([self._time(cell, row, name) for row, cell in enumerate(cells)])

    def _number(self, cell: str, row: int, name: str) -> float:
        if cell.strip().lower() in _MISSING:
            return np.nan
        try:
            number = float(cell)
        except ValueError:
            hint = "; data.time names a column of times" if _is_time(cell) else self._hint()
            raise RecipeError(
                self.path, f"{self.where(row, name)}: expected a number, got {excerpt(cell)}{hint}"
            ) from None
        if not abs(number) <= _LARGEST:
            raise RecipeError(
                self.path, f"{self.where(row, name)}: expected a finite float32 number, got {cell.strip()}"
            )
        return number

    def _time(self, cell: str, row: int, name: str) -> float:
        with suppress(ValueError):
            return float(cell)
        try:
            moment = datetime.fromisoformat(cell)
        except ValueError:
            raise RecipeError(
                self.path,
                f"{self.where(row, name)}: expected a number or a time as 2024-01-31T12:00, "
                f"got {excerpt(cell)}",
            ) from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

    def _hint(self) -> str:
        """Names the likely cause where the whole header is one column."""
        if len(self.header) > 1:
            return ""
        text = self.header[0] + "".join(self.rows[0])
        found = [word for sign, word in ((";", "semicolons"), ("\t", "tabs")) if sign in text]
        return f"; columns must be separated by commas, not {found[0]}" if found else ""

    def _names(self) -> str:
        more = len(self.header) - _MOST_NAMES
        return ", ".join(self.header[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def read_table(path: Path) -> Table:
    """Reads a csv. Blank lines are skipped.

    Raises:
        RecipeError: The file is missing or not UTF-8, has no rows, or a row has more or fewer cells than the
            header.
    """
    if path.suffix.lower() != ".csv":
        raise RecipeError(path, "expected a .csv or .npz file")
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: list[Sequence[str]] = []
    lines: list[int] = []
    begin = 1
    try:
        for row in reader:
            if len(row) > 1 or "".join(row).strip():
                rows.append(row)
                lines.append(begin)
            begin = reader.line_num + 1
    except csv.Error as error:
        raise RecipeError(path, f"line {begin}: not a row of a csv: {error}") from None
    table = Table(path, tuple(" ".join(name.split()) for name in rows[0]), rows[1:], lines[1:])
    for line, cells in zip(table.lines, table.rows, strict=True):
        if len(cells) != len(table.header):
            raise RecipeError(
                path, f"line {line}: expected {len(table.header)} values, got {len(cells)}{table._hint()}"
            )
    if not table.rows:
        raise RecipeError(path, "expected rows below the header, got none")
    return table


def named_by_header(table: Table, without: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the columns of a table except those in `without`.

    Raises:
        RecipeError: The first line holds numbers, so that it is probably a row and no header.
    """
    names = tuple(name for name in table.header if name not in without)
    if names and all(_is_number(name) for name in table.header):
        raise RecipeError(
            table.path,
            f"line 1: expected a header of names, got the numbers {table._names()}; "
            "if they are names, list them in data.columns",
        )
    if "" in names:
        column = table.header.index("") + 1
        raise RecipeError(
            table.path, f"line 1: column {column} has no name; list those to read in data.columns"
        )
    if not names:
        raise RecipeError(table.path, f"expected columns of numbers, got only {table._names()}")
    return names


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text.strip())
    except ValueError:
        return False
    return True


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
