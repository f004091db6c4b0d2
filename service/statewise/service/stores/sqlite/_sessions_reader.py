"""Reads sessions from log and database together; the newest row counts."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from statewise.service.stores import ROW, Listed, StoreDamaged, StoredSession
from statewise.service.stores.sqlite._database import Counters, signed, unsigned
from statewise.service.stores.sqlite._log_reader import Logged, LogReader, check_folded
from statewise.service.stores.sqlite._named_checkpoints import read_checkpoints
from statewise.service.stores.sqlite._newest_rows import NewestRows
from statewise.service.stores.sqlite._records import SEEN

RECORDS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Known:
    """What the database itself knows of a session: never damaged by a damaged log."""

    birth: int
    owner: str
    session_id: str
    epoch: int
    handle: int
    used_ms: int
    model: int
    entry: bytes | None
    damage: str | None
    writer: int
    stored_bytes: int


KNOWN = "birth, owner, session_id, epoch, handle, used_ms, model, entry, damage, writer, stored_bytes"


def refresh(connection: sqlite3.Connection, counters: Counters, newest: NewestRows) -> None:
    """Brings the index of the log up to date: with records of all writers, without what was folded."""
    newest.forget(counters.folded)
    query = f"SELECT number, rows FROM records WHERE number > ? ORDER BY number LIMIT {RECORDS_AT_ONCE}"
    while newest.added < counters.records:
        records = connection.execute(query, (newest.added,)).fetchall()
        newest.add([(number, np.frombuffer(rows, SEEN)) for number, rows in records])
        if not records:
            break


class SessionsReader:
    """Reads within one transaction, whose index is up to date.

    Args:
        connection: Its connection.
        path: Of the database.
        newest: The index.
        writer: Number of the writer that reads.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, newest: NewestRows, writer: int) -> None:
        self._connection = connection
        self._path = path
        self._newest = newest
        self._writer = writer

    def known(self, births: Sequence[int]) -> list[Known | None]:
        """Returns what the database knows of sessions, None for one that is not there."""
        query = f"SELECT {KNOWN} FROM sessions WHERE birth = ?"
        rows = (self._connection.execute(query, (signed(birth),)).fetchone() for birth in births)
        return [Known(unsigned(row[0]), *row[1:]) if row else None for row in rows]

    def newest(self, sessions: Sequence[Known], *, states: bool) -> list[Logged | StoreDamaged]:
        """Reads the newest rows of sessions, and their states where asked for."""
        births = np.array([session.birth for session in sessions], np.uint64)
        places = self._newest.find(births)
        found: dict[int, Logged | StoreDamaged] = {}
        with LogReader(self._connection, self._path.parent) as log:
            for number in np.unique(places["record"]).tolist():
                if number:
                    chosen = np.flatnonzero(places["record"] == number)
                    positions = places["position"][chosen].astype(np.intp)
                    read = log.read(number, positions, births[chosen], states=states)
                    found.update(zip(chosen.tolist(), read, strict=True))
        folded = [at for at in range(len(sessions)) if at not in found]
        found.update(zip(folded, self._folded([sessions[at] for at in folded], states), strict=True))
        return [found[at] for at in range(len(sessions))]

    def _folded(self, sessions: Sequence[Known], states: bool) -> list[Logged | StoreDamaged]:
        """Reads and checks what the table has."""
        births = [session.birth for session in sessions]
        packed = [session.entry or b"" for session in sessions]
        query = "SELECT state FROM sessions WHERE birth = ?"
        stored = None
        if states:
            stored = [
                self._connection.execute(query, (signed(birth),)).fetchone()[0] or b"" for birth in births
            ]
        read: list[Logged | StoreDamaged] = []
        for session, checked in zip(sessions, check_folded(births, packed, stored), strict=True):
            if checked is not None and session.damage is None:
                read.append(Logged(session.model, *checked))
            else:
                place = f"store {self._path}, session {session.birth}: row and state fail their checksum"
                read.append(StoreDamaged(session.damage or place, [session.birth]))
        return read

    def load(self, births: Sequence[int], most_bytes: int) -> list[StoredSession | None]:
        """Returns sessions with their newest states, and their named checkpoints: the first ones.

        Args:
            births: The sessions.
            most_bytes: What they may count for together, unless one alone has more.

        Raises:
            StoreDamaged: Some cannot be loaded; it names all of them.
        """
        known = _first(self.known(births), most_bytes)
        births = births[: len(known)]
        present = [session for session in known if session is not None]
        read = self.newest(present, states=True)
        checkpoints, failing = read_checkpoints(self._connection, self._path, births)
        damaged = [one for one in read if isinstance(one, StoreDamaged)] + failing
        if damaged:
            raise StoreDamaged(str(damaged[0]), [birth for one in damaged for birth in one.births])
        models = self._models()
        loaded = iter(
            StoredSession(
                session.owner,
                session.session_id,
                *models[logged.model],
                _with_epoch(logged, session.epoch),
                logged.state,
                own=session.writer == self._writer,
                checkpoints=checkpoints.get(session.birth, ()),
            )
            for session, logged in zip(present, read, strict=True)
            if isinstance(logged, Logged)
        )
        return [next(loaded) if session is not None else None for session in known]

    def load_own(self, owner: str, handles: Sequence[int], most_bytes: int) -> list[StoredSession | None]:
        """Works like `load`, for an owner's sessions by handle, if they belong to this writer."""
        births = self.births_of_handles(handles)
        known = self.known([birth for birth in births if birth])
        own = [one.birth for one in known if one and (one.owner, one.writer) == (owner, self._writer)]
        loaded = dict(zip(own, self.load(own, most_bytes), strict=False))
        left = set(own[len(loaded) :])
        end = next((at for at, birth in enumerate(births) if birth in left), len(births))
        return [loaded.get(birth) for birth in births[:end]]

    def list_sessions(self, owner: str | None, after: tuple[str, str], limit: int) -> list[Listed]:
        """Returns sessions by owner and id, behind a pair of both."""
        if owner is None:
            where, values = "(owner, session_id) > (?, ?)", after
        else:
            where, values = "owner = ? AND session_id > ?", (owner, after[1] if after[0] == owner else "")
            if after[0] > owner:
                return []
            if after[0] != owner:
                where = "owner = ? AND session_id >= ?"
        query = f"SELECT {KNOWN} FROM sessions WHERE {where} ORDER BY owner, session_id LIMIT ?"
        rows = self._connection.execute(query, (*values, max(limit, 0))).fetchall()
        sessions = [Known(unsigned(row[0]), *row[1:]) for row in rows]
        models = self._models()
        listed: list[Listed] = []
        damage: str | None
        for session, read in zip(sessions, self.newest(sessions, states=False), strict=True):
            if isinstance(read, StoreDamaged):
                row, model, damage = _bare_row(session), models[session.model], str(read)
            else:
                row, model, damage = _with_epoch(read, session.epoch), models[read.model], None
            listed.append(Listed(session.owner, session.session_id, model[0], model[1], row, damage))
        return listed

    def _models(self) -> dict[int, tuple[str, int, str]]:
        query = "SELECT model, name, version, digest FROM models"
        return {
            model: (name, version, digest) for model, name, version, digest in self._connection.execute(query)
        }

    def births_of_handles(self, handles: Sequence[int]) -> list[int]:
        """Returns the births that have handles in their newest rows, 0 for a handle that none has."""
        wanted = np.array(handles, np.uint64)
        place_of = {handle: place for place, handle in enumerate(handles)}
        query = "SELECT handle, birth FROM sessions WHERE handle IN (SELECT value FROM json_each(?))"
        stored = [
            (place_of[unsigned(handle)], unsigned(birth))
            for handle, birth in self._connection.execute(query, (_json(handles),))
        ]
        which, births = self._newest.births_of_handles(wanted)
        which = np.concatenate([which, np.array([place for place, _ in stored], np.intp)])
        births = np.concatenate([births, np.array([birth for _, birth in stored], np.uint64)])
        in_table = np.arange(len(births)) >= len(births) - len(stored)
        places = self._newest.find(births)
        newest = np.where(places["record"] > 0, places["handle"] == wanted[which], in_table)
        present = self._present(births[newest & ~in_table].tolist())
        found = {
            place: birth
            for place, birth, stands in zip(
                which[newest].tolist(), births[newest].tolist(), in_table[newest], strict=True
            )
            if stands or birth in present
        }
        return [found.get(place_of[handle], 0) for handle in handles]

    def _present(self, births: Sequence[int]) -> set[int]:
        """Returns those births that have not ended: the log may have rows of others."""
        if not births:
            return set()
        query = "SELECT birth FROM sessions WHERE birth IN (SELECT value FROM json_each(?))"
        return {unsigned(birth) for (birth,) in self._connection.execute(query, (_json(births),))}


def _first(known: list[Known | None], most_bytes: int) -> list[Known | None]:
    """Returns the first sessions, as many as count for so many bytes, and at least one."""
    total = 0
    for at, session in enumerate(known):
        total += session.stored_bytes if session is not None else 0
        if at and total > most_bytes:
            return known[:at]
    return known


def _json(numbers: Sequence[int]) -> str:
    return json.dumps([signed(number) for number in numbers])


def _with_epoch(logged: Logged, epoch: int) -> np.void:
    """The row, with the epoch of the last claim."""
    row: np.void = np.array([logged.entry["row"]], ROW)[0]
    row["epoch"] = max(int(row["epoch"]), epoch)
    return row


def _bare_row(session: Known) -> np.void:
    row: np.void = np.zeros(1, ROW)[0]
    row["birth"], row["handle"] = session.birth, unsigned(session.handle)
    row["used_ms"], row["epoch"] = unsigned(session.used_ms), session.epoch
    return row
