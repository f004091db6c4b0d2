"""Adds sessions to the database and ends them, with what each owner has; all within a transaction."""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from statewise.service.stores import Name, Usage
from statewise.service.stores.sqlite._database import Counters, signed, unsigned
from statewise.service.stores.sqlite._newest_rows import NewestRows

ADD_USAGE = (
    "INSERT INTO usage VALUES (?, ?, ?) ON CONFLICT (owner) DO UPDATE SET "
    "sessions = sessions + excluded.sessions, stored_bytes = stored_bytes + excluded.stored_bytes"
)
ADD_SESSION = (
    "INSERT INTO sessions (birth, owner, session_id, handle, epoch, used_ms, stored_bytes, model, writer) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

EXPIRED_AT_ONCE = 1_000
"""Sessions that are looked at in one transaction."""

FirstRow = tuple[int, int, int, int, int]
"""Of a session: handle, epoch, time of last use, stored bytes, number of its model; as SQLite takes them."""


class Names:
    """Names given and sessions ended within one transaction.

    Args:
        connection: Its connection.
        counters: Its counters.
        writer: Number of the writer, to which new sessions belong.

    Attributes:
        ended: Births of sessions that the transaction has ended.
        refused: Births that got no name: they had ended, or have another name.
    """

    def __init__(self, connection: sqlite3.Connection, counters: Counters, writer: int) -> None:
        self.ended: list[int] = []
        self.refused: set[int] = set()
        self._connection = connection
        self._counters = counters
        self._writer = writer
        self._usage: dict[str, list[int]] = {}

    def give(
        self, names: Sequence[Name], first_rows: Mapping[int, FirstRow], is_over: Callable[[int], bool]
    ) -> None:
        """Adds sessions that are not there yet; a session that had such a name ends.

        Args:
            names: Of the sessions.
            first_rows: Of every birth among the names.
            is_over: Says whether a birth has ended earlier.
        """
        by_birth = "SELECT owner, session_id FROM sessions WHERE birth = ?"
        by_name = "SELECT birth FROM sessions WHERE owner = ? AND session_id = ?"
        for name in names:
            wanted = (name.owner, name.session_id)
            present = self._connection.execute(by_birth, (signed(name.birth),)).fetchone()
            if present == wanted:
                continue
            if present is not None or is_over(name.birth):
                self.refused.add(name.birth)
                continue
            holder = self._connection.execute(by_name, wanted).fetchone()
            if holder is not None:
                self.end([unsigned(holder[0])])
            row = first_rows[name.birth]
            self._connection.execute(ADD_SESSION, (signed(name.birth), *wanted, *row, self._writer))
            self._count(name.owner, 1, row[3])

    def end(self, births: Iterable[int]) -> None:
        """Ends the sessions that are there, of these births."""
        remove = "DELETE FROM sessions WHERE birth = ? RETURNING owner, stored_bytes"
        for birth in births:
            for owner, stored_bytes in self._connection.execute(remove, (signed(birth),)).fetchall():
                self._count(owner, -1, -stored_bytes)
                self.ended.append(birth)

    def owners_of(self, births: Collection[int]) -> dict[int, str]:
        """Returns the owners of those sessions that belong to the writer, by birth."""
        query = (
            "SELECT birth, owner FROM sessions WHERE birth IN (SELECT value FROM json_each(?)) AND writer = ?"
        )
        wanted = json.dumps([signed(birth) for birth in births])
        found = self._connection.execute(query, (wanted, self._writer)).fetchall()
        return {unsigned(birth): owner for birth, owner in found}

    def count_bytes(self, birth: int, owner: str, stored_bytes: int) -> None:
        """Counts that a session has more bytes, or fewer."""
        change = "UPDATE sessions SET stored_bytes = stored_bytes + ? WHERE birth = ?"
        self._connection.execute(change, (stored_bytes, signed(birth)))
        self._count(owner, 0, stored_bytes)

    def _count(self, owner: str, sessions: int, stored_bytes: int) -> None:
        counts = self._usage.setdefault(owner, [0, 0])
        counts[0] += sessions
        counts[1] += stored_bytes
        self._counters.sessions += sessions
        self._counters.stored_bytes += stored_bytes

    def write_usage(self) -> None:
        """Writes what the owners have now."""
        changes = [(owner, *counts) for owner, counts in self._usage.items()]
        self._connection.executemany(ADD_USAGE, changes)
        if any(counts[0] < 0 for counts in self._usage.values()):
            self._connection.execute("DELETE FROM usage WHERE sessions = 0")


def usage_of(connection: sqlite3.Connection, owner: str) -> Usage:
    """Returns what an owner has."""
    query = "SELECT sessions, stored_bytes FROM usage WHERE owner = ?"
    return Usage(*connection.execute(query, (owner,)).fetchone() or (0, 0))


def births_of(connection: sqlite3.Connection, owner: str, session_ids: Sequence[str]) -> list[int]:
    """Returns the births of an owner's sessions, 0 for an id that no session has."""
    query = "SELECT birth FROM sessions WHERE owner = ? AND session_id = ?"
    found = (connection.execute(query, (owner, session_id)).fetchone() for session_id in session_ids)
    return [unsigned(row[0]) if row else 0 for row in found]


def owned(connection: sqlite3.Connection, owner: str, births: Sequence[int]) -> list[int]:
    """Returns those births that an owner has."""
    query = "SELECT 1 FROM sessions WHERE birth = ? AND owner = ?"
    return [birth for birth in births if connection.execute(query, (signed(birth), owner)).fetchone()]


def number_of_model(connection: sqlite3.Connection, model: str, version: int, digest: str) -> int:
    """Returns the number of a model version, which it gets at its first use."""
    key = (model, version, digest)
    connection.execute("INSERT OR IGNORE INTO models (name, version, digest) VALUES (?, ?, ?)", key)
    query = "SELECT model FROM models WHERE name = ? AND version = ? AND digest = ?"
    [number] = connection.execute(query, key).fetchone()
    return int(number)


def expired(
    connection: sqlite3.Connection, newest: NewestRows, used_before_ms: int, limit: int
) -> tuple[list[int], bool]:
    """Returns births of such sessions, at most `limit`, and whether there may be more; within a transaction.

    A session whose newest row is in the log has an older time of use in the table. The table learns the newer
    time here, so that the same session is not looked at again.
    """
    found: list[int] = []
    exists = "SELECT 1 FROM sessions WHERE birth = ?"
    for birth in newest.used_before(used_before_ms).tolist():
        if len(found) == limit:
            return found, True
        if connection.execute(exists, (signed(birth),)).fetchone():
            found.append(birth)
    query = "SELECT birth FROM sessions WHERE used_ms < ? ORDER BY used_ms LIMIT ?"
    rows = connection.execute(query, (signed(used_before_ms), EXPIRED_AT_ONCE)).fetchall()
    births = np.array([unsigned(birth) for (birth,) in rows], np.uint64)
    places = newest.find(births)
    logged = places["record"] > 0
    later = [
        (signed(int(place["used_ms"])), signed(int(place["birth"])))
        for place in places[logged]
        if int(place["used_ms"]) >= used_before_ms
    ]
    connection.executemany("UPDATE sessions SET used_ms = ? WHERE birth = ?", later)
    found += births[~logged].tolist()
    return found[:limit], len(rows) == EXPIRED_AT_ONCE or len(found) > limit
