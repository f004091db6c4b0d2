"""Appends a writer's records to its log files, and removes files that nothing needs any more.

A record counts once the database says where it is. A file has a lock for as long as its writer lives;
whatever stands behind the last record of a file without a writer was never committed, and is cut off.
"""

import os
import re
import sqlite3
from pathlib import Path

from statewise.service.stores.sqlite._database import Counters
from statewise.service.stores.sqlite._files import Files
from statewise.service.stores.sqlite._records import Packed

SEGMENT_BYTES = 64 * 2**20
"""Bytes after which a writer begins a new file."""
SPARE_SEGMENTS = 2
"""Files without a record that are kept: writing over them costs a fraction of what writing new ones does."""


class LogWriter:
    """The log file that a writer appends to.

    Args:
        path: Of the database.
        files: Does what changes the disk.
        segment_bytes: Bytes after which a new file begins.
    """

    def __init__(self, path: Path, files: Files, segment_bytes: int) -> None:
        self._path = path
        self._files = files
        self._segment_bytes = segment_bytes
        self._file: int | None = None
        self._file_path = path
        self._segment = 0
        self._offset = 0

    def append(
        self, connection: sqlite3.Connection, counters: Counters, writer: int, packed: Packed
    ) -> tuple[int, int]:
        """Appends a record within the open transaction, and returns the number of its file and its offset."""
        if self._file is None or self._offset >= self._segment_bytes:
            self.close()
            self._begin(connection, counters, writer)
        assert self._file is not None
        self._files.append(self._file, packed.buffers, self._offset)
        self._files.sync(self._file)
        return self._segment, self._offset

    def _begin(self, connection: sqlite3.Connection, counters: Counters, writer: int) -> None:
        """Begins a file: a spare one, whose blocks and cached pages are there already, or a new one."""
        counters.segments += 1
        self._file_path = self._path.with_name(f"{self._path.name}-log-{writer}-{counters.segments}")
        self._segment, self._offset = counters.segments, 0
        for segment, name in unneeded_segments(connection):
            descriptor = self._files.take_over(self._path.with_name(name))
            if descriptor is not None:
                self._file = descriptor
                self._files.rename(self._path.with_name(name), self._file_path)
                connection.execute("DELETE FROM segments WHERE segment = ?", (segment,))
                break
        else:
            self._files.remove(self._file_path)
            self._file = self._files.create(self._file_path)
        self._files.sync_folder(self._path.parent)
        connection.execute("INSERT INTO segments VALUES (?, ?)", (self._segment, self._file_path.name))

    def committed(self, length: int) -> None:
        """Says that the record is durable: the next one goes behind it."""
        self._offset += length

    def abandon(self, *, outcome_unknown: bool) -> None:
        """Gives the file up after a failure.

        Args:
            outcome_unknown: The commit may have happened, so nothing of the file may go.
        """
        if self._file is None:
            return
        try:
            if not outcome_unknown:
                if self._offset:
                    self._files.truncate(self._file, self._offset)
                else:
                    self._files.remove(self._file_path)
        except OSError:
            pass  # Whoever opens the store next cuts the file off.
        finally:
            self.close()

    def close(self) -> None:
        """Closes the file, which then has no writer."""
        if self._file is not None:
            self._files.close(self._file)
            self._file = None


def remove_leftovers(connection: sqlite3.Connection, path: Path, files: Files) -> None:
    """Removes files that no committed transaction created, and cuts off what was never committed.

    Within a transaction: files are created in transactions, so none comes into being meanwhile.
    """
    ends = dict(
        connection.execute(
            "SELECT file, (SELECT coalesce(max(offset + length), 0) FROM records "
            "WHERE records.segment = segments.segment) FROM segments"
        ).fetchall()
    )
    pattern = re.compile(re.escape(path.name) + r"-log-\d+-\d+")
    for name in os.listdir(path.parent):
        if not pattern.fullmatch(name):
            continue
        descriptor = files.take_over(path.with_name(name))
        if descriptor is None:
            continue
        try:
            if name not in ends:
                files.remove(path.with_name(name))
            elif ends[name] and os.fstat(descriptor).st_size > ends[name]:
                files.truncate(descriptor, ends[name])
        finally:
            files.close(descriptor)


def unneeded_segments(connection: sqlite3.Connection) -> list[tuple[int, str]]:
    """Returns number and name of files that have no record; some may have a writer."""
    query = (
        "SELECT segment, file FROM segments WHERE NOT EXISTS "
        "(SELECT 1 FROM records WHERE records.segment = segments.segment) ORDER BY segment"
    )
    return connection.execute(query).fetchall()


def drop_segments(connection: sqlite3.Connection, path: Path, files: Files) -> list[str]:
    """Drops files with neither record nor writer from the database, but for spare ones; returns names."""
    dropped = []
    spare = SPARE_SEGMENTS
    for segment, name in unneeded_segments(connection):
        file_path = path.with_name(name)
        descriptor = files.take_over(file_path)
        if descriptor is not None:
            files.close(descriptor)
            spare -= 1
        elif file_path.exists():
            continue
        if descriptor is None or spare < 0:
            connection.execute("DELETE FROM segments WHERE segment = ?", (segment,))
            dropped.append(name)
    return dropped
