"""Results of a bulk run as they come, in a file that survives the process.

Frames are only ever appended, each with its length and checksum, so whatever a killed process left behind is
a run of whole frames and perhaps a torn one, which is cut off. One process at a time holds the file.

Invariant: the frames read back are those that `append` has returned for, in order.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

_HEADER = struct.Struct("<QQQI")
"""Bytes of the payload, its rows, how many of those failed, and a checksum of all that."""
_NUMBERS = struct.Struct("<QQQ")


class LogError(Exception):
    """The file is in use, or belongs to another run; the message says what to do."""


class ResultLog:
    """The file of a run, begun or gone on with. Left without a result in it, it goes away.

    Args:
        path: of the file; made where it is not there.

    Raises:
        LogError: another process holds it.
        OSError: it cannot be written.
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
        self.identity = b""
        """The payload of the first frame: whose results these are. Empty: nobody's yet."""
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
        """Forgets everything and writes whose results will follow."""
        self._file.truncate(0)
        self.rows = self.failed = 0
        self.append(identity, rows=0, failed=0)
        self.identity = identity

    def append(self, payload: bytes, *, rows: int, failed: int) -> None:
        """Adds a frame, and returns when it is on the disk."""
        numbers = _NUMBERS.pack(len(payload), rows, failed)
        frame = numbers + struct.pack("<I", zlib.crc32(payload, zlib.crc32(numbers))) + payload
        written = 0
        while written < len(frame):
            written += self._file.write(memoryview(frame)[written:])
        os.fsync(self._file.fileno())
        self.rows += rows
        self.failed += failed

    def payloads(self) -> Iterator[bytes]:
        """Frames after the first, in order."""
        for number, (payload, _, _) in enumerate(self._frames()):
            if number:
                yield payload

    def remove(self) -> None:
        """Deletes the file."""
        self.path.unlink(missing_ok=True)

    def _recover(self) -> None:
        end = 0
        for number, (payload, rows, failed) in enumerate(self._frames()):
            if number == 0:
                self.identity = payload
            self.rows += rows
            self.failed += failed
            end += _HEADER.size + len(payload)
        self._file.truncate(end)

    def _frames(self) -> Iterator[tuple[bytes, int, int]]:
        """Whole frames from the beginning; ends at the first that is not whole."""
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            while len(header := file.read(_HEADER.size)) == _HEADER.size:
                length, rows, failed, checksum = _HEADER.unpack(header)
                if length > size - file.tell():
                    return
                payload = file.read(length)
                if zlib.crc32(payload, zlib.crc32(header[: _NUMBERS.size])) != checksum:
                    return
                yield payload, rows, failed
