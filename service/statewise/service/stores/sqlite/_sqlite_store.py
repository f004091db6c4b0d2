"""Implements the store on SQLite: every call is a transaction, and what it leaves behind in memory."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

from statewise.service.stores import (
    READ_BYTES,
    Block,
    Listed,
    StoreDamaged,
    StoredSession,
    StoreError,
    StoreUnavailable,
    Usage,
    Written,
)
from statewise.service.stores.sqlite._admission import Admitted, admit, require_rows
from statewise.service.stores.sqlite._database import Counters, Database, signed
from statewise.service.stores.sqlite._fence import ENDED, Fence
from statewise.service.stores.sqlite._files import Files, translated
from statewise.service.stores.sqlite._folding import RECORD_OVERHEAD_BYTES, Folding, end_lease, take_lease
from statewise.service.stores.sqlite._log_writer import (
    SEGMENT_BYTES,
    LogWriter,
    drop_segments,
    remove_leftovers,
)
from statewise.service.stores.sqlite._names import EXPIRED_AT_ONCE, Names, births_of, expired, owned, usage_of
from statewise.service.stores.sqlite._newest_rows import NewestRows
from statewise.service.stores.sqlite._records import Packed, pack
from statewise.service.stores.sqlite._sessions_reader import SessionsReader, refresh

_T = TypeVar("_T")
LOG_BYTES = 256 * 2**20
LOG_FULL_BYTES = 2**30


class SqliteStore:
    """Keeps sessions in one SQLite database, and in log files beside it; all of them on a disk of this host.

    A block is appended to a log file of this writer, with one sync, and counts once the database has it.
    `tidy` folds the log into the database. Files are readable by their user alone.

    Args:
        path: Of the database; log files are named after it.
        synchronous: "full": what a call has done survives a power cut. "normal": it survives the end of the
            process; a power cut may undo the last calls, and never damages the store.
        busy_s: How long a call waits for another writer.
        log_bytes: From here on, folding is due.
        log_full_bytes: From here on, `write` refuses rows until some are folded.
        segment_bytes: Bytes after which a new log file begins.
        takeovers_kept: Takeovers that are remembered. A writer that misses more compares each session once.
        clock: Seconds since 1970, for the lease of folding.
        files: Does what changes the disk.

    Raises:
        StoreUnavailable: The database cannot be opened for writing.
        StoreDamaged: It is no SQLite database, or damaged.
        StoreVersionError: Another version of statewise has written it.
    """

    def __init__(
        self,
        path: Path,
        *,
        synchronous: Literal["full", "normal"] = "full",
        busy_s: float = 5.0,
        log_bytes: int = LOG_BYTES,
        log_full_bytes: int = LOG_FULL_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        takeovers_kept: int = 16_384,
        clock: Callable[[], float] = time.time,
        files: Files | None = None,
    ) -> None:
        self._path = path.absolute()
        self._files = files or Files()
        self.read_bytes = READ_BYTES
        self._log_limit = log_bytes
        self._log_full_bytes = log_full_bytes
        self._clock = clock
        self._closed = False
        self._folds = False
        self._log_bytes = 0
        self._newest = NewestRows()
        self._folding = Folding(self._path, self._newest)
        self._log = LogWriter(self._path, self._files, segment_bytes)
        self._database = Database(self._path, self._files, synchronous=synchronous, busy_s=busy_s)
        self._connection = self._database.connection
        try:
            with self._database.writing() as counters:
                counters.writers += 1
                self._writer = counters.writers
                remove_leftovers(self._connection, self._path, self._files)
                self._refresh(counters)
        except BaseException:
            self._database.close()
            raise
        self._fence = Fence(self._writer, takeovers_kept)

    @property
    def folding_due(self) -> bool:
        """Whether the log was over its bound at the last call; `tidy` then has work."""
        return self._log_bytes > self._log_limit

    def _refresh(self, counters: Counters) -> None:
        self._log_bytes = counters.log_bytes
        refresh(self._connection, counters, self._newest)

    def _reader(self) -> SessionsReader:
        return SessionsReader(self._connection, self._path, self._newest, self._writer)

    def _require_open(self) -> None:
        if self._closed:
            raise StoreError(f"store {self._path}: it is closed")

    def write(self, block: Block) -> Written:
        """Writes a block; see `Store.write`."""
        self._require_open()
        require_rows(block)
        try:
            with self._database.writing() as counters:
                admitted = admit(self._connection, counters, self._fence, block)
                packed = self._append(admitted, counters) if admitted.groups else None
                self._fence.note(self._connection, counters, admitted.taken)
        except BaseException:
            self._log.abandon(outcome_unknown=self._database.committing)
            raise
        self._fence.committed(counters, admitted.taken)
        self._log_bytes = counters.log_bytes
        written_bytes = admitted.checkpoint_bytes
        if packed is not None:
            self._log.committed(packed.length)
            if self._newest.added == counters.records - 1:
                self._newest.add([(counters.records, packed.seen)])
            written_bytes += packed.length
        return Written(admitted.moved, written_bytes, admitted.kept)

    def _append(self, admitted: Admitted, counters: Counters) -> Packed:
        """Appends a record to the log, and tells the database of it."""
        if counters.log_bytes > self._log_full_bytes:
            raise StoreUnavailable(
                f"store {self._path}: {counters.log_bytes} bytes of its log wait to be folded, "
                f"expected at most {self._log_full_bytes}"
            )
        packed = pack(admitted.groups)
        segment, offset = self._log.append(self._connection, counters, self._writer, packed)
        counters.records += 1
        counters.log_bytes += packed.length + RECORD_OVERHEAD_BYTES
        parts = json.dumps([[part.model, part.rows, part.state_bytes] for part in admitted.parts])
        self._connection.execute(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)",
            (counters.records, segment, offset, packed.length, parts, packed.seen.tobytes()),
        )
        return packed

    def find(self, owner: str, session_ids: Sequence[str]) -> list[int]:
        """Returns births by name; see `Store.find`."""
        self._require_open()
        with self._database.reading():
            return births_of(self._connection, owner, session_ids)

    def find_handles(self, handles: Sequence[int]) -> list[int]:
        """Returns births by handle; see `Store.find_handles`."""
        return self._load(lambda reader: reader.births_of_handles(handles))

    def claim(self, births: Sequence[int]) -> list[StoredSession | None]:
        """Takes sessions over; see `Store.claim`."""
        self._require_open()
        with self._database.writing() as counters:
            self._fence.read(self._connection, counters)
            self._refresh(counters)
            sessions = self._reader().load(births, self.read_bytes)
            taken = []
            for session in sessions:
                if session is not None:
                    session.row["epoch"] += 1
                    taken.append((int(session.row["birth"]), int(session.row["epoch"])))
            raised = [(epoch, self._writer, signed(birth)) for birth, epoch in taken]
            update = "UPDATE sessions SET epoch = ?, writer = ? WHERE birth = ?"
            self._connection.executemany(update, raised)
            self._fence.note(self._connection, counters, taken)
        self._fence.committed(counters, taken)
        return sessions

    def read(self, births: Sequence[int]) -> list[StoredSession | None]:
        """Returns sessions; see `Store.read`."""
        return self._load(lambda reader: reader.load(births, self.read_bytes))

    def read_own(self, owner: str, handles: Sequence[int]) -> list[StoredSession | None]:
        """Returns this writer's sessions; see `Store.read_own`."""
        return self._load(lambda reader: reader.load_own(owner, handles, self.read_bytes))

    def _load(self, load: Callable[[SessionsReader], list[_T]]) -> list[_T]:
        self._require_open()
        try:
            with self._database.reading() as counters:
                self._refresh(counters)
                return load(self._reader())
        except StoreDamaged:
            # Another writer may have folded and removed a file; while this one holds the lock, none does.
            with self._database.writing() as counters:
                self._refresh(counters)
                return load(self._reader())

    def list_sessions(self, owner: str | None, *, after: tuple[str, str], limit: int) -> list[Listed]:
        """Lists sessions; see `Store.list_sessions`."""
        self._require_open()
        with self._database.reading() as counters:
            self._refresh(counters)
            listed = self._reader().list_sessions(owner, after, limit)
        if any(one.damage for one in listed):
            with self._database.writing() as counters:
                self._refresh(counters)
                listed = self._reader().list_sessions(owner, after, limit)
        return listed

    def usage(self, owner: str | None = None) -> Usage:
        """Counts sessions and bytes; see `Store.usage`."""
        self._require_open()
        with self._database.reading() as counters:
            if owner is None:
                return Usage(counters.sessions, counters.stored_bytes)
            return usage_of(self._connection, owner)

    def expire(self, *, used_before_ms: int, limit: int) -> list[int]:
        """Ends sessions that were last used before a time; see `Store.expire`."""
        self._require_open()
        births: list[int] = []
        more = True
        while more and len(births) < limit:
            with self._ending() as ending:
                at_most = min(limit - len(births), EXPIRED_AT_ONCE)
                found, more = expired(self._connection, self._newest, used_before_ms, at_most)
                ending.end(found)
            births += ending.ended
        return births

    def end(self, owner: str, births: Sequence[int]) -> None:
        """Ends an owner's sessions; see `Store.end`."""
        self._require_open()
        with self._ending() as ending:
            ending.end(owned(self._connection, owner, births))

    @contextmanager
    def _ending(self) -> Iterator[Names]:
        """A transaction that ends sessions, of any writer."""
        with self._database.writing() as counters:
            self._fence.read(self._connection, counters)
            self._refresh(counters)
            names = Names(self._connection, counters, self._writer)
            yield names
            names.write_usage()
            taken = [(birth, ENDED) for birth in names.ended]
            self._fence.note(self._connection, counters, taken)
        self._fence.committed(counters, taken)

    def tidy(self, *, seconds: float) -> bool:
        """Folds the log down to half of its bound, if this writer is the one that folds; see `Store.tidy`."""
        self._require_open()
        end = time.monotonic() + seconds
        down_to = self._log_limit // 2
        while True:
            with self._database.writing() as counters:
                now_ms = int(self._clock() * 1000)
                if counters.log_bytes > down_to and not take_lease(counters, self._writer, now_ms):
                    self._log_bytes = counters.log_bytes
                    return False
                self._folds = True
                self._refresh(counters)
                self._folding.portion(self._connection, counters, down_to)
            self._log_bytes = counters.log_bytes
            if counters.log_bytes <= down_to or time.monotonic() >= end:
                break
        self._remove_files()
        return self._log_bytes > down_to

    def _remove_files(self) -> None:
        """Removes log files that nothing needs: first the row, then the file, or else at the next start."""
        with self._database.writing():
            dropped = drop_segments(self._connection, self._path, self._files)
        with translated(self._path):
            for name in dropped:
                self._files.remove(self._path.with_name(name))

    def begin_anew(self) -> None:
        """Does nothing: a database does not lose everything while it is open."""

    def close(self) -> None:
        """Closes files and database; see `Store.close`."""
        if not self._closed:
            self._closed = True
            self._log.close()
            if self._folds:
                with suppress(StoreError), self._database.writing() as counters:
                    end_lease(counters, self._writer)
            self._database.close()
