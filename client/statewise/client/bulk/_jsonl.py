"""Reads sequences from lines `{"id": ..., "inputs": ...}` of .jsonl files, also compressed, and of streams.

The id is optional, blank lines are skipped. A line that holds no sequence is a row that cannot be read.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from statewise.client.bulk._file_row import FileRow
from statewise.client.bulk._json import parse_json, parse_with_python
from statewise.client.values import InvalidInput

_LONGEST_LINE_BYTES = 32 * 1024 * 1024
"""A million numbers, more than a request of the usual 4 MiB holds, take 20 MB with every digit."""
_EXPECTED = 'expected {"id": ..., "inputs": ...}; got'
_MARK = b"\xef\xbb\xbf"
"""A byte order mark, with which some programs begin a file."""


class JsonlFile:
    """A .jsonl file, or a .jsonl.gz.

    Raises:
        InvalidInput: by its methods; a compressed file is damaged.
        OSError: by its methods; the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def count(self) -> int:
        """Counts the lines that are not blank."""
        return sum(1 for _ in self._lines())

    def rows(self, start: int) -> Iterator[FileRow]:
        """Yields rows; lines before `start` are not parsed."""
        for number, line in islice(self._lines(), start, None):
            yield _row(number, line)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        if self._path.suffix.lower() != ".gz":
            with self._path.open("rb") as stream:
                yield from _filled_lines(stream)
            return
        try:
            with gzip.open(self._path) as packed, io.BufferedReader(packed) as stream:
                yield from _filled_lines(stream)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InvalidInput(f"{self._path.name}: expected a whole gzip file: {error}") from None


def rows_of_stream(stream: IO[bytes], start: int) -> Iterator[FileRow]:
    """Yields the rows of a binary stream that is read once; those before `start` are read and dropped."""
    for number, line in islice(_filled_lines(stream), start, None):
        yield _row(number, line)


def _filled_lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yields number and bytes of each line that is not blank; a line that is too long is cut off."""
    number = 0
    while line := stream.readline(_LONGEST_LINE_BYTES + 1):
        number += 1
        rest = line
        while len(rest) > _LONGEST_LINE_BYTES and not rest.endswith(b"\n"):
            rest = stream.readline(_LONGEST_LINE_BYTES + 1)
        if number == 1:
            line = line.removeprefix(_MARK)
        if line and not line.isspace():
            yield number, line


def _row(number: int, line: bytes) -> FileRow:
    if len(line) > _LONGEST_LINE_BYTES:
        error = InvalidInput(f"expected a line of at most {_LONGEST_LINE_BYTES:,} bytes; got more")
        return FileRow(None, error, number)
    try:
        value = parse_json(line.rstrip(b"\r\n"))  # with its end, columns would be counted on the next line
    except ValueError as error:
        return FileRow(None, InvalidInput(f"{_EXPECTED} what is no JSON: {error}"), number)
    if not isinstance(value, dict):
        return FileRow(None, InvalidInput(f"{_EXPECTED} a {type(value).__name__}"), number)
    row_id = value.get("id")
    if type(row_id) is float:
        row_id = parse_with_python(line)["id"]  # orjson makes a float of a long integer
    if "inputs" not in value:
        keys = ", ".join(map(repr, value)) or "none"
        return FileRow(row_id, InvalidInput(f"{_EXPECTED} the keys {keys}"), number)
    return FileRow(row_id, value["inputs"], number)
