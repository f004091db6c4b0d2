"""Translates errors of SQLite and of the operating system into those of stores."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from statewise.service.stores import StoreDamaged, StoreError, StoreUnavailable

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
