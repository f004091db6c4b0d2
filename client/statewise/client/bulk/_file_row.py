"""Defines what every kind of file yields for a sequence: its id, its inputs and its line."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol


class FileRow(NamedTuple):
    """One sequence of a file.

    Attributes:
        id: its id; None if the file gives it none.
        inputs: the sequence, or an `InvalidInput` that says why it cannot be read.
        line: the line at which it begins, from 1; None for a kind of file without lines.
    """

    id: object
    inputs: Any
    line: int | None = None


class FileReader(Protocol):
    """A file of sequences."""

    def count(self) -> int:
        """Counts the rows."""
        ...

    def rows(self, start: int) -> Iterator[FileRow]:
        """Yields every row from index `start` on."""
        ...
