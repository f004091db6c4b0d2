"""Stops a store between two changes of the disk, or in the middle of one, as a kill does."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from statewise.service.stores.sqlite import Files


class Stopped(BaseException):
    """The process has ended here."""


class StoppingFiles(Files):
    """Does as many changes as it is told to, half of the next one, and nothing afterwards.

    Args:
        changes: How many changes happen.
        done_first: Whether the change that stops happens nearly whole, with its answer lost.
    """

    def __init__(self, changes: int, *, done_first: bool = False) -> None:
        self.left = changes
        self.stopped = False
        self._done_first = done_first
        self._open: set[int] = set()
        self._connection: sqlite3.Connection | None = None

    def _stops(self) -> bool:
        if self.stopped:
            raise Stopped
        self.left -= 1
        self.stopped = self.left < 0
        return self.stopped

    def end(self) -> None:
        """Closes what the process had open, as its end does."""
        self.stopped = True
        for descriptor in self._open:
            super().close(descriptor)
        self._open.clear()
        if self._connection is not None:
            self._connection.close()

    def connect(self, path: Path, *, busy_s: float) -> sqlite3.Connection:
        """Opens the database; remembers it."""
        self._connection = super().connect(path, busy_s=busy_s)
        return self._connection

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commits, or stops before or after it."""
        if self._stops():
            if self._done_first:
                super().commit(connection)
            raise Stopped
        super().commit(connection)

    def create(self, path: Path) -> int:
        """Creates a file, or stops with the file there."""
        stops = self._stops()
        descriptor = super().create(path)
        self._open.add(descriptor)
        if stops:
            raise Stopped
        return descriptor

    def take_over(self, path: Path) -> int | None:
        """Opens a file; changes nothing."""
        descriptor = super().take_over(path)
        if descriptor is not None:
            self._open.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        """Closes a file, unless the process has ended: then `end` does."""
        if not self.stopped:
            self._open.discard(descriptor)
            super().close(descriptor)

    def append(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> None:
        """Appends, or stops with half of it written, or all."""
        if self._stops():
            whole = b"".join(buffers)
            part = whole if self._done_first else whole[: len(whole) // 2]
            super().append(descriptor, [memoryview(part)], offset)
            raise Stopped
        super().append(descriptor, buffers, offset)

    def sync(self, descriptor: int) -> None:
        """Syncs, or stops."""
        if self._stops():
            raise Stopped
        super().sync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Syncs, or stops."""
        if self._stops():
            raise Stopped
        super().sync_folder(folder)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cuts a file, or stops before or after it."""
        if self._stops():
            if self._done_first:
                super().truncate(descriptor, size)
            raise Stopped
        super().truncate(descriptor, size)

    def rename(self, old: Path, new: Path) -> None:
        """Renames a file, or stops before or after it."""
        if self._stops():
            if self._done_first:
                super().rename(old, new)
            raise Stopped
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        """Removes a file, or stops before or after it."""
        if self._stops():
            if self._done_first:
                super().remove(path)
            raise Stopped
        super().remove(path)
