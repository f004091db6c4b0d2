"""Keeps a writer from writing rows of sessions that it no longer has: taken over, replaced or ended.

Whoever takes a session leaves a takeover in the database. A write reads those that other writers left since
this writer's last call. Rows of these sessions, of whatever epoch, are left out until this writer claims the
sessions again. Takeovers are removed when they are many; a writer that missed some compares every session
with the database once, before it next writes a row of it.
"""

import json
import sqlite3
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.service.stores.sqlite._database import Counters, signed, unsigned

ENDED = 2**32
"""The epoch of a session that is over: above that of any row."""

MOST_CHECKED = 1_000_000
"""Sessions that a writer remembers to have compared; it then begins anew."""


class Fence:
    """What one writer knows of the sessions that were taken.

    Args:
        writer: Number of the writer.
        kept: How many takeovers are kept: in the database, and here up to twice as many.
    """

    def __init__(self, writer: int, kept: int) -> None:
        self.writer = writer
        """Number of the writer."""
        self._kept = kept
        self._seen: int | None = None
        self._theirs: dict[int, int] = {}
        self._own: dict[int, int] = {}
        self._checked: set[int] | None = None

    def read(self, connection: sqlite3.Connection, counters: Counters) -> None:
        """Reads the takeovers since the last call; the transaction has not added any yet."""
        if self._seen == counters.takeovers:
            return
        if self._seen is not None and self._seen < counters.forgotten:
            self._checked = set()
        query = "SELECT birth, epoch FROM takeovers WHERE number > ? AND writer <> ? ORDER BY number"
        for birth, epoch in connection.execute(query, (self._seen or 0, self.writer)):
            key = unsigned(birth)
            self._theirs.pop(key, None)
            self._theirs[key] = epoch
        self._seen = counters.takeovers
        if _cut(self._theirs, self._kept):
            self._checked = set()

    def ended(self, birth: int) -> bool:
        """Whether a session is known to have ended."""
        return ENDED in (self._theirs.get(birth), self._own.get(birth))

    def is_theirs(self, birth: int) -> bool:
        """Whether another writer has taken a session since this one had it."""
        return birth in self._theirs

    def compare(self, connection: sqlite3.Connection, births: NDArray[np.uint64]) -> None:
        """Compares sessions with the database, each once, where this writer has missed takeovers."""
        if self._checked is None:
            return
        if len(self._checked) > MOST_CHECKED:
            self._checked.clear()
        unchecked = {birth for birth in births.tolist() if birth not in self._checked}
        query = "SELECT birth, epoch, writer FROM sessions WHERE birth IN (SELECT value FROM json_each(?))"
        found = connection.execute(query, (json.dumps([signed(birth) for birth in unchecked]),))
        present = {unsigned(birth): (epoch, writer) for birth, epoch, writer in found}
        for birth in unchecked:
            epoch, writer = present.get(birth, (ENDED, 0))
            if writer != self.writer:
                self._theirs[birth] = epoch
        self._checked.update(unchecked)

    def barred(self, rows: NDArray[np.void]) -> NDArray[np.bool_] | None:
        """Says of each `ROW` whether it must be left out; None where none must."""
        if not self._theirs and not self._own:
            return None
        births = rows["birth"].tolist()
        among = set(births)
        known = (self._theirs.keys() & among) | (self._own.keys() & among)
        if not known:
            return None
        out = np.zeros(len(rows), np.bool_)
        for at in np.flatnonzero(np.isin(rows["birth"], np.array(list(known), np.uint64))):
            birth = births[at]
            out[at] = birth in self._theirs or int(rows["epoch"][at]) < self._own.get(birth, 0)
        return out if out.any() else None

    def note(
        self, connection: sqlite3.Connection, counters: Counters, taken: Sequence[tuple[int, int]]
    ) -> None:
        """Adds takeovers, births with their new epochs, to the open transaction, and removes old ones."""
        if not taken:
            return
        rows = [
            (number, self.writer, signed(birth), epoch)
            for number, (birth, epoch) in enumerate(taken, counters.takeovers + 1)
        ]
        connection.executemany("INSERT INTO takeovers VALUES (?, ?, ?, ?)", rows)
        counters.takeovers += len(taken)
        if counters.takeovers - self._kept > counters.forgotten:
            counters.forgotten = counters.takeovers - self._kept
            connection.execute("DELETE FROM takeovers WHERE number <= ?", (counters.forgotten,))

    def committed(self, counters: Counters, taken: Sequence[tuple[int, int]]) -> None:
        """Says that the transaction is durable, whose takeovers were read before it added its own."""
        self._seen = counters.takeovers
        for birth, epoch in taken:
            self._theirs.pop(birth, None)
            self._own.pop(birth, None)
            self._own[birth] = epoch
        _cut(self._own, self._kept)


def _cut(known: dict[int, int], most: int) -> bool:
    """Removes the oldest entries where there are twice as many as a number; returns whether it did."""
    if len(known) <= 2 * most:
        return False
    for birth in list(known)[:-most]:
        del known[birth]
    return True
