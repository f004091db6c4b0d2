"""Folds the oldest records of the log into the table of sessions, a portion at a time.

A portion is a transaction of its own, so that writers wait for a portion and never for a record. Only the
newest row of a session is folded. Whoever reads meanwhile finds the row in the log or in the table, and both
are the same.
"""

import sqlite3
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from statewise.service.stores import StoreDamaged
from statewise.service.stores.sqlite._database import Counters
from statewise.service.stores.sqlite._log_reader import LogReader
from statewise.service.stores.sqlite._newest_rows import NewestRows
from statewise.service.stores.sqlite._records import SEEN

PORTION_ROWS = 512
PORTION_RECORDS = 64
WINDOW_ROWS = 8_192
"""Rows of a record that are looked at in one portion."""
LEASE_MS = 10_000
RECORD_OVERHEAD_BYTES = 4096
"""What a record counts for beside its length, so that the number of records is bounded, too."""

FOLD = (
    "UPDATE sessions SET handle = ?, used_ms = ?, model = ?, entry = ?, state = ?, damage = NULL "
    "WHERE birth = ?"
)
SPOIL = "UPDATE sessions SET entry = NULL, state = NULL, damage = ? WHERE birth = ?"


def take_lease(counters: Counters, writer: int, now_ms: int) -> bool:
    """Makes a writer the one that folds, unless another is; a lease that has ended is free."""
    if counters.folder not in (0, writer) and now_ms < counters.folder_until_ms:
        return False
    counters.folder, counters.folder_until_ms = writer, now_ms + LEASE_MS
    return True


def end_lease(counters: Counters, writer: int) -> None:
    """Lets another writer fold at once."""
    if counters.folder == writer:
        counters.folder = counters.folder_until_ms = 0


class Folding:
    """Where this writer's folding is: how far in the oldest record."""

    def __init__(self, path: Path, newest: NewestRows) -> None:
        self._path = path
        self._newest = newest
        self._record = 0
        self._next = 0

    def portion(self, connection: sqlite3.Connection, counters: Counters, down_to: int) -> None:
        """Folds some rows of the oldest records, until the log counts for no more than a number of bytes.

        The index of the log must be up to date.
        """
        query = "SELECT number, length, rows FROM records WHERE number > ? ORDER BY number LIMIT 1"
        left = PORTION_ROWS
        for _ in range(PORTION_RECORDS):
            if left <= 0 or counters.log_bytes <= down_to:
                break
            oldest = connection.execute(query, (counters.folded,)).fetchone()
            if oldest is None:
                counters.folded, counters.log_bytes = counters.records, 0
                break
            number, length, packed = oldest
            seen = np.frombuffer(packed, SEEN)
            begin = self._next if self._record == number else 0
            end = min(begin + WINDOW_ROWS, len(seen))
            newest = self._newest.find(np.ascontiguousarray(seen["birth"][begin:end]))
            live = np.flatnonzero(
                (newest["record"] == number) & (newest["position"] == np.arange(begin, end))
            )
            if len(live) > left:
                live = live[:left]
                end = begin + int(live[-1]) + 1
            self._fold_rows(connection, number, live + begin, seen[live + begin])
            left -= max(len(live), 1)
            self._record, self._next = number, end
            if end == len(seen):
                connection.execute("DELETE FROM records WHERE number = ?", (number,))
                counters.folded = number
                counters.log_bytes = max(counters.log_bytes - length - RECORD_OVERHEAD_BYTES, 0)

    def _fold_rows(
        self,
        connection: sqlite3.Connection,
        number: int,
        positions: NDArray[np.intp],
        seen: NDArray[np.void],
    ) -> None:
        if not len(positions):
            return
        folded, spoilt = [], []
        handles, used = seen["handle"].view("<i8").tolist(), seen["used_ms"].view("<i8").tolist()
        births = np.ascontiguousarray(seen["birth"])
        with LogReader(connection, self._path.parent) as log:
            reads = log.read(number, positions, births)
        for birth, handle, used_ms, read in zip(
            births.view("<i8").tolist(), handles, used, reads, strict=True
        ):
            if isinstance(read, StoreDamaged):
                spoilt.append((str(read), birth))
            else:
                folded.append(
                    (handle, used_ms, read.model, read.entry.tobytes(), read.state.tobytes(), birth)
                )
        connection.executemany(FOLD, folded)
        connection.executemany(SPOIL, spoilt)
