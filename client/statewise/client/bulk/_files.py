"""Finds the files of a path or pattern and reads sequences from them, row by row.

A row is its id, or None, and its inputs, or an `InvalidInput` if it holds no sequence. Memory holds one row
of .npz and .jsonl at a time, and one row group of .parquet.
"""

import glob
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from statewise.client.bulk._npz import NpzFile
from statewise.client.bulk._parquet import ParquetFile
from statewise.client.values import InvalidInput

FileRow = tuple[object, Any]


class SampleFile(Protocol):
    """A file of sequences."""

    def count(self) -> int:
        """Counts the rows."""
        ...

    def rows(self, start: int) -> Iterator[FileRow]:
        """Yields id and inputs of every row from `start` on."""
        ...


class JsonlFile:
    """A file of lines `{"id": ..., "inputs": ...}`; the id is optional, empty lines are skipped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def count(self) -> int:
        """Counts the lines that are not empty."""
        with self._path.open("rb") as lines:
            return sum(1 for line in lines if not line.isspace())

    def rows(self, start: int) -> Iterator[FileRow]:
        """Yields rows; lines before `start` are not parsed."""
        with self._path.open("rb") as lines:
            filled = (numbered for numbered in enumerate(lines, 1) if not numbered[1].isspace())
            for number, line in islice(filled, start, None):
                yield self._row(number, line)

    def _row(self, number: int, line: bytes) -> FileRow:
        expected = f'{self._path.name}, line {number}: expected {{"id": ..., "inputs": ...}}; got'
        try:
            value = json.loads(line)
        except ValueError as error:
            return None, InvalidInput(f"{expected} what is no JSON: {error}")
        if not isinstance(value, dict):
            return None, InvalidInput(f"{expected} a {type(value).__name__}")
        if "inputs" not in value:
            keys = ", ".join(map(repr, value)) or "none"
            return value.get("id"), InvalidInput(f"{expected} the keys {keys}")
        return value.get("id"), value["inputs"]


def open_files(pattern: str | Path) -> list[SampleFile]:
    """Opens the files of a path or a pattern, sorted by name.

    Raises:
        InvalidInput: there is no such file, or one has another suffix.
    """
    kinds: dict[str, Callable[[Path], SampleFile]] = {
        ".npz": NpzFile,
        ".jsonl": JsonlFile,
        ".parquet": ParquetFile,
    }
    files = []
    for path in find_files(pattern):
        if path.suffix not in kinds:
            raise InvalidInput(f"expected a file named {', '.join(kinds)}; got {str(path)!r}")
        files.append(kinds[path.suffix](path))
    return files


def find_files(pattern: str | Path) -> list[Path]:
    """Finds the files that a path or a pattern names, sorted by name.

    Raises:
        InvalidInput: there is no such file.
    """
    if Path(pattern).is_file():
        return [Path(pattern)]
    paths = [Path(path) for path in sorted(glob.glob(str(pattern), recursive=True)) if Path(path).is_file()]
    if not paths:
        raise InvalidInput(f"expected the path of a file, or a pattern; no file is named {str(pattern)!r}")
    return paths
