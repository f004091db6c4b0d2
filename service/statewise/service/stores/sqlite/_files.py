"""Does everything that changes the disk, so that a test can stop a store between two such things.

Tells also what an error of SQLite or of the operating system means for a store.
"""

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from statewise.service.stores import StoreDamaged, StoreError, StoreUnavailable

MOST_BUFFERS = 512
"""Of one system call; Linux takes at most 1,024."""


class Files:
    """The files of a store. Errors are those of the operating system and of SQLite; see `translated`."""

    def connect(self, path: Path, *, busy_s: float) -> sqlite3.Connection:
        """Opens the database, which is created readable by its user alone."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commits the open transaction."""
        connection.execute("COMMIT")

    def create(self, path: Path) -> int:
        """Creates a file for appending; its lock, which ends with the process, says that it has a writer."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor

    def take_over(self, path: Path) -> int | None:
        """Opens and locks a file that no living writer has; None where one has it, or where it is gone."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
                return None
            raise
        return descriptor

    def close(self, descriptor: int) -> None:
        """Closes a file, and so unlocks it."""
        os.close(descriptor)

    def append(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> None:
        """Writes buffers one after another, beginning at an offset."""
        waiting = [buffer for buffer in buffers if len(buffer)]
        while waiting:
            written = os.pwritev(descriptor, waiting[:MOST_BUFFERS], offset)
            offset += written
            while waiting and written >= len(waiting[0]):
                written -= len(waiting.pop(0))
            if written:
                waiting[0] = waiting[0][written:]

    def sync(self, descriptor: int) -> None:
        """Waits until what was appended is on the disk."""
        os.fdatasync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Waits until the names in a folder are on the disk."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cuts a file."""
        os.ftruncate(descriptor, size)

    def rename(self, old: Path, new: Path) -> None:
        """Gives a file another name."""
        old.rename(new)

    def remove(self, path: Path) -> None:
        """Removes a file, if it is there."""
        path.unlink(missing_ok=True)


DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
AWAY = {
    sqlite3.SQLITE_BUSY: "another process has held the lock for longer than the busy timeout",
    sqlite3.SQLITE_LOCKED: "another connection holds the lock",
    sqlite3.SQLITE_READONLY: "file or folder cannot be written",
    sqlite3.SQLITE_IOERR: "reading or writing failed",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CANTOPEN: "file or folder cannot be opened",
    sqlite3.SQLITE_PERM: "file or folder may not be used",
    sqlite3.SQLITE_PROTOCOL: "locking failed; a database belongs on a disk of this host",
    sqlite3.SQLITE_NOMEM: "there is no memory",
}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raises StoreError instead of errors of SQLite and of files.

    Raises:
        StoreDamaged: SQLite finds its own file damaged.
        StoreUnavailable: Locked for too long, full, read-only, not reachable.
        StoreError: Anything else that SQLite reports.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in DAMAGED:
            raise StoreDamaged(f"store {path}: the database is damaged: {error}") from error
        if code in AWAY:
            raise StoreUnavailable(f"store {path}: {AWAY[code]} ({error})") from error
        raise StoreError(f"store {path}: {error}") from error
    except FileNotFoundError as error:
        if path.parent.is_dir():
            raise StoreUnavailable(f"store {path}: {error.filename or path} is missing") from error
        raise StoreUnavailable(f"store {path}: the folder {path.parent} does not exist") from error
    except OSError as error:
        raise StoreUnavailable(
            f"store {path}: {error.strerror or error}: {error.filename or path}"
        ) from error
