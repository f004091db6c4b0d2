"""Keeps the results of a bulk run in a file that survives the process.

The file is a sequence of records, each with its length and a checksum. Records are only appended, so a killed
process leaves whole records and at most one that is torn (partly written), which the next process cuts off.
One process at a time holds the file.

Invariant: reading returns exactly the records for which `append` has returned, in order.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

_HEADER = struct.Struct("<QQQQI")
"""Bytes of the payload, its rows, its failed rows, its numbers that are not finite, and a checksum of these
four and the payload."""
_NUMBERS = struct.Struct("<QQQQ")


class LogError(Exception):
    """The file is in use, or belongs to another run; the message says what to do."""


class ResultLog:
    """Opens the log of a new or interrupted run; deletes the file if the `with` block ends without results.

    Args:
        path: The file; created if it does not exist.

    Raises:
        LogError: Another process holds the file.
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise LogError(f"another run is writing {path}") from None
        self.rows = 0
        self.failed = 0
        self.not_finite = 0
        self.complete = False
        """All rows are there; the file of results may have been written already."""
        self.identity = b""
        """Payload of the first record, which identifies the run; empty for a new file."""
        self._recover()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.rows:
            self.remove()
        self._file.close()

    def begin(self, identity: bytes) -> None:
        """Deletes all records and writes the identity of the run that follows."""
        self._file.truncate(0)
        self.rows = self.failed = self.not_finite = 0
        self.complete = False
        self.append(identity, rows=0, failed=0)
        self.identity = identity

    def note_complete(self) -> None:
        """Adds the last record, which has no payload."""
        if not self.complete:
            self.append(b"", rows=0, failed=0)
            self.complete = True

    def append(self, payload: bytes, *, rows: int, failed: int, not_finite: int = 0) -> None:
        """Adds a record, and returns when the record is on the disk."""
        numbers = _NUMBERS.pack(len(payload), rows, failed, not_finite)
        record = numbers + struct.pack("<I", zlib.crc32(payload, zlib.crc32(numbers))) + payload
        begin = self._size()
        try:
            while (written := self._size() - begin) < len(record):
                self._file.write(memoryview(record)[written:])
            os.fsync(self._file.fileno())
        finally:
            if self._size() - begin == len(record):  # also if an interruption ends the wait for the disk
                self.rows += rows
                self.failed += failed
                self.not_finite += not_finite

    def payloads(self) -> Iterator[bytes]:
        """Reads the records after the identity, in order."""
        for number, (payload, *_) in enumerate(self._records()):
            if number and payload:
                yield payload

    def remove(self) -> None:
        """Deletes the file."""
        self.path.unlink(missing_ok=True)

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _recover(self) -> None:
        end = 0
        for number, (payload, rows, failed, not_finite) in enumerate(self._records()):
            if number == 0:
                self.identity = payload
            self.complete = number > 0 and not payload
            self.rows += rows
            self.failed += failed
            self.not_finite += not_finite
            end += _HEADER.size + len(payload)
        self._file.truncate(end)

    def _records(self) -> Iterator[tuple[bytes, int, int, int]]:
        """Reads payload, rows, failed rows and numbers that are not finite, up to the first torn record."""
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            while len(header := file.read(_HEADER.size)) == _HEADER.size:
                length, rows, failed, not_finite, checksum = _HEADER.unpack(header)
                if length > size - file.tell():
                    return
                payload = file.read(length)
                if zlib.crc32(payload, zlib.crc32(header[: _NUMBERS.size])) != checksum:
                    return
                yield payload, rows, failed, not_finite
