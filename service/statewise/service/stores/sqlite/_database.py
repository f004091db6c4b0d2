"""Opens the database of a store: schema, versions, transactions, and the row of counters.

Times of last use, births and handles are unsigned in the program and signed in SQLite: the same 64 bits.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Literal

from statewise.service.stores import StoreError, StoreVersionError
from statewise.service.stores.sqlite._files import Files, translated

APPLICATION = 0x73776973
"""Says of a database that it is a store of statewise ("swis")."""
SCHEMA = 2

PAGE_BYTES = 8_192
CACHE_KIB = 65_536
"""Of pages: enough for the inner pages of every index, and the leaves of some, at a million sessions."""
CHECKPOINT_PAGES = 8_000
"""Pages of the write-ahead log after which SQLite copies them into the database."""

TABLES = """
CREATE TABLE counters (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    writers INTEGER NOT NULL DEFAULT 0,
    segments INTEGER NOT NULL DEFAULT 0,
    records INTEGER NOT NULL DEFAULT 0,
    folded INTEGER NOT NULL DEFAULT 0,
    log_bytes INTEGER NOT NULL DEFAULT 0,
    takeovers INTEGER NOT NULL DEFAULT 0,
    forgotten INTEGER NOT NULL DEFAULT 0,
    folder INTEGER NOT NULL DEFAULT 0,
    folder_until_ms INTEGER NOT NULL DEFAULT 0,
    sessions INTEGER NOT NULL DEFAULT 0,
    stored_bytes INTEGER NOT NULL DEFAULT 0
);
INSERT INTO counters (one) VALUES (1);
CREATE TABLE models (
    model INTEGER PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL,
    UNIQUE (name, version, digest)
);
CREATE TABLE sessions (
    session INTEGER PRIMARY KEY, birth INTEGER NOT NULL UNIQUE, owner TEXT NOT NULL, session_id TEXT NOT NULL,
    handle INTEGER NOT NULL, epoch INTEGER NOT NULL, used_ms INTEGER NOT NULL, stored_bytes INTEGER NOT NULL,
    model INTEGER NOT NULL, writer INTEGER NOT NULL, entry BLOB, damage TEXT, state BLOB
);
CREATE UNIQUE INDEX sessions_by_name ON sessions (owner, session_id);
CREATE INDEX sessions_by_handle ON sessions (handle);
CREATE INDEX sessions_by_use ON sessions (used_ms);
CREATE TABLE usage (
    owner TEXT PRIMARY KEY, sessions INTEGER NOT NULL, stored_bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE takeovers (
    number INTEGER PRIMARY KEY, writer INTEGER NOT NULL, birth INTEGER NOT NULL, epoch INTEGER NOT NULL
);
CREATE TABLE segments (segment INTEGER PRIMARY KEY, file TEXT NOT NULL);
CREATE TABLE records (
    number INTEGER PRIMARY KEY, segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    parts TEXT NOT NULL, rows BLOB NOT NULL
);
CREATE INDEX records_by_segment ON records (segment, offset, length);
"""
NAMED_CHECKPOINTS = (
    "CREATE TABLE IF NOT EXISTS checkpoints (checkpoint INTEGER PRIMARY KEY, birth INTEGER NOT NULL, "
    "name TEXT NOT NULL, position INTEGER NOT NULL, made_ms INTEGER NOT NULL, origin TEXT NOT NULL, "
    "bytes INTEGER NOT NULL, sum INTEGER NOT NULL, state BLOB NOT NULL, UNIQUE (birth, name))",
    "CREATE TRIGGER IF NOT EXISTS checkpoints_end AFTER DELETE ON sessions "
    "BEGIN DELETE FROM checkpoints WHERE birth = old.birth; END",
)
"""Added to the tables of a store that an earlier build has begun, and which that build goes on using."""


def signed(number: int) -> int:
    """Returns the signed number of the same 64 bits."""
    return number - 2**64 if number >= 2**63 else number


def unsigned(number: int) -> int:
    """Returns the unsigned number of the same 64 bits."""
    return number + 2**64 if number < 0 else number


@dataclass(slots=True)
class Counters:
    """The one row that every transaction reads: the last number of each kind, and who folds.

    Attributes:
        writers: Last number of a writer.
        segments: Last number of a segment.
        records: Last number of a record.
        folded: All records up to this number have been folded and removed.
        log_bytes: What the records that are left count for.
        takeovers: Last number of a takeover.
        forgotten: All takeovers up to this number have been removed.
        folder: The writer that folds, 0 for none.
        folder_until_ms: When its lease ends, in milliseconds since 1970.
        sessions: Sessions of all owners.
        stored_bytes: What these count for.
    """

    writers: int
    segments: int
    records: int
    folded: int
    log_bytes: int
    takeovers: int
    forgotten: int
    folder: int
    folder_until_ms: int
    sessions: int
    stored_bytes: int


COLUMNS = ", ".join(field.name for field in fields(Counters))
_values_of = attrgetter(*(field.name for field in fields(Counters)))
"""The numbers of counters, in the order of `COLUMNS`."""
READ_COUNTERS = f"SELECT {COLUMNS} FROM counters"
WRITE_COUNTERS = f"UPDATE counters SET ({COLUMNS}) = ({', '.join('?' * len(fields(Counters)))})"


class Database:
    """A connection, and its transactions.

    Attributes:
        path: Of the database.
        connection: The connection; statements outside a transaction are not used.
        committing: Whether the last transaction got as far as its commit, whose outcome may be unknown.
    """

    def __init__(
        self, path: Path, files: Files, *, synchronous: Literal["full", "normal"], busy_s: float
    ) -> None:
        self.path = path
        self.committing = False
        self._files = files
        with translated(path):
            self.connection = files.connect(path, busy_s=busy_s)
            try:
                self._prepare(synchronous)
                files.sync_folder(path.parent)
            except BaseException:
                self.connection.close()
                raise

    def _prepare(self, synchronous: str) -> None:
        """Creates the tables in an empty file, and refuses what another version or another program wrote."""
        connection = self.connection
        [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous.upper()}")
        connection.execute(f"PRAGMA cache_size = {-CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {CHECKPOINT_PAGES * PAGE_BYTES}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            [application] = connection.execute("PRAGMA application_id").fetchone()
            [version] = connection.execute("PRAGMA user_version").fetchone()
            [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and application != APPLICATION:
                raise StoreError(
                    f"store {self.path}: expected a store of statewise, received another database"
                )
            if tables and version != SCHEMA:
                raise StoreVersionError(_version_message(self.path, version))
            if not tables:
                for statement in TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
            for statement in NAMED_CHECKPOINTS:
                connection.execute(statement)
            self._files.commit(connection)
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    @contextmanager
    def reading(self) -> Iterator[Counters]:
        """Reads within one snapshot."""
        with translated(self.path):
            self.connection.execute("BEGIN")
            try:
                yield Counters(*self.connection.execute(READ_COUNTERS).fetchone())
            finally:
                self._roll_back()

    @contextmanager
    def writing(self) -> Iterator[Counters]:
        """Changes the database while no other writer does; writes the counters back, and commits."""
        with translated(self.path):
            self.committing = False
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                counters = Counters(*self.connection.execute(READ_COUNTERS).fetchone())
                before = _values_of(counters)
                yield counters
                after = _values_of(counters)
                if after != before:
                    self.connection.execute(WRITE_COUNTERS, after)
                self.committing = True
                self._files.commit(self.connection)
            except BaseException:
                self._roll_back()
                raise

    def close(self) -> None:
        """Closes the connection."""
        with translated(self.path):
            self.connection.close()


def _version_message(path: Path, version: int) -> str:
    known = f"store {path}: expected schema {SCHEMA}, received schema {version}"
    if version > SCHEMA:
        return f"{known}: a newer statewise wrote it; serve it with that version or a newer one"
    return f"{known}: no release has written that one; serve with another file"
