"""Brings the sessions of a store and those in memory together: storing them, waking them, letting them leave.

Replies wait here until the store has what they tell.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import MOST_KEPT, ModelKey, ServiceError, Slots, store_unavailable
from statewise.service.dataplane.durability import (
    Checkpoints,
    SleepingHandles,
    StoredReplies,
    StoreThread,
    StoreUsage,
)
from statewise.service.dataplane.sessions._memory_room import MemoryRoom
from statewise.service.dataplane.sessions._session_directory import SessionDirectory
from statewise.service.dataplane.sessions._session_turns import SessionTurns
from statewise.service.dataplane.sessions._sleeping_sessions import SleepingSessions
from statewise.service.registry import ModelRegistry
from statewise.service.session_state import SessionScan, SessionTable, StoredQuotas
from statewise.service.session_state.kept_states import KeptStates
from statewise.service.stores import bytes_in_store


class StoredSessions:
    """Sessions of one store.

    Args:
        models: The served models.
        table: The sessions in memory.
        directory: Creates and ends sessions.
        turns: Orders operations.
        scan: Searches the table.
        store: The store.
        quotas: Limits of what it keeps.
        checkpoint_s: Seconds between two checkpoints.
        retention_s: Seconds after which the store deletes a session that nobody used.
        holds_replies: Whether a reply waits until the store has what it tells.
        required: Whether requests are refused while the store is away.
        clock: Seconds, monotonic; the table's.
    """

    def __init__(
        self,
        models: ModelRegistry,
        table: SessionTable,
        directory: SessionDirectory,
        turns: SessionTurns,
        *,
        scan: SessionScan,
        store: StoreThread,
        quotas: StoredQuotas,
        checkpoint_s: float,
        retention_s: float,
        holds_replies: bool,
        required: bool,
        clock: Callable[[], float],
    ) -> None:
        self._models = models
        self._table = table
        self._directory = directory
        self._turns = turns
        self._store = store
        self.checkpoints = Checkpoints(
            table,
            store,
            kept_of=self._kept_of,
            end_moved=self._end_moved,
            retention_s=retention_s,
            interval_s=checkpoint_s,
            clock=clock,
        )
        """Write what changes."""
        self.usage = StoreUsage(
            quotas,
            table,
            self.checkpoints,
            store,
            size_of=self._stored_bytes,
            largest=self._most_stored_bytes,
            clock=clock,
        )
        """Tells quotas what the store has."""
        self.replies = StoredReplies(table, self.checkpoints, wait=holds_replies)
        """Hold replies back."""
        self.room = MemoryRoom(table, directory, scan, self.checkpoints, awaited=self._awaited_sessions)
        """Lets sessions leave memory."""
        self.sleeping = SleepingSessions(
            models,
            table,
            directory,
            room=self.room,
            store=store,
            ending=lambda: self.checkpoints.ending,
            clock=clock,
        )
        """Wakes and ends sessions that left it."""
        self.handles = SleepingHandles(table, self.sleeping.wake)
        """Let requests wait for sessions to wake."""
        self._required = required
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def store(self) -> StoreThread:
        """The store."""
        return self._store

    @property
    def refuses(self) -> bool:
        """Whether requests that change sessions are refused: the store is away, and is required."""
        return self._required and bool(self.checkpoints.counts.why_away)

    def refuse_when_away(self) -> None:
        """Raises ServiceError (STORE_UNAVAILABLE) where requests are refused."""
        if self.refuses:
            raise store_unavailable("the session store is away, and this server needs it for sessions")

    def refuse_ends(self, sessions: int) -> None:
        """Raises ServiceError (STORE_UNAVAILABLE) where so many sessions cannot end: the store is away."""
        if not self.checkpoints.may_end(sessions):
            raise store_unavailable("the session store is away, and too many ended sessions wait for it")

    def refuse_checkpoints(self, checkpoints: int) -> None:
        """Raises ServiceError (STORE_UNAVAILABLE) where so many checkpoints cannot change now."""
        if not self.checkpoints.may_keep(checkpoints):
            raise store_unavailable("the session store is away, and too many checkpoints wait for it")

    async def settle(self) -> None:
        """Returns when the store has what has happened so far. Raises ServiceError (STORE_UNAVAILABLE)."""
        await self.replies.settle(np.empty(0, np.uint64))

    def _awaited_sessions(self) -> Slots:
        """Returns the slots of sessions that requests wait for."""
        waiting = [model.scheduler.awaited_sessions() for model in self._models]
        return np.concatenate([self.handles.awaited_sessions(), *waiting])

    async def close(self) -> None:
        """Writes what is owed, as far as the store takes it, and closes the store."""
        await self.handles.close()
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self.checkpoints.tick()
        await self._store.close()

    def _kept_of(self, number: int) -> tuple[ModelKey, str, KeptStates]:
        model = self._models[number]
        return model.key, model.package.digest, model.kept

    def _most_stored_bytes(self) -> int:
        """Returns the bytes that a session takes in the store at most."""
        return max((bytes_in_store(one.kept.session_bytes(MOST_KEPT)) for one in self._models), default=0)

    def _stored_bytes(self, slots: Slots) -> int:
        """Returns the bytes that sessions in memory take in the store."""
        numbers, total = self._table.model[slots], 0
        for number in np.unique(numbers).tolist():
            kept = self._models[number].kept
            keeps, counts = np.unique(kept.keeps_of(slots[numbers == number]), return_counts=True)
            for keep, count in zip(keeps.tolist(), counts.tolist(), strict=True):
                total += count * bytes_in_store(kept.session_bytes(keep))
        return total

    def _end_moved(self, slots: Slots, births: NDArray[np.uint64]) -> None:
        """Ends sessions that another server has taken over: their handles are void at once."""
        handles: dict[int, int] = {}
        for slot, birth in zip(slots.tolist(), births.tolist(), strict=True):
            if self._table.birth_of(slot) == birth and self._table.is_open(slot):
                self._table.void_as_moved(slot)
                handles[slot] = int(self._table.handle[slot])

        def end(_: int, slot: int) -> None:
            if int(self._table.handle[slot]) == handles[slot]:
                self._directory.end(slot, cause="moved")

        ending = asyncio.ensure_future(self._turns.run({slot: slot for slot in handles}, end))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def wake(
        self, owner: str, session_ids: Sequence[str], births: Sequence[int] = (), *, guesses: bool = False
    ) -> dict[str, ServiceError]:
        """Brings sessions into memory. Ids that the store lacks, or that are in memory, are passed over.

        Args:
            owner: Name of their owner.
            session_ids: Their ids.
            births: Births that are meant, one an id, 0: any; empty: any.
            guesses: As for `SleepingSessions.wake_named`.

        Returns:
            By id why a session that the store has cannot be used.

        Raises:
            ServiceError: STORE_UNAVAILABLE; MODEL_LOADING: the version of one of them is being loaded.
        """
        number = self._table.owner_number(owner)
        meant = dict(zip(session_ids, births or [0] * len(session_ids), strict=True))
        held = {one: slot for one in meant if (slot := self._table.find(number, one)) is not None}
        if held:
            await self._end_lost(held.values(), known=all(meant[one] for one in held))
        return await self.sleeping.wake_named(number, meant, guesses=guesses)

    async def _end_lost(self, slots: Iterable[int], *, known: bool) -> None:
        """Ends those sessions that another server has taken over, which this one may not have learned yet.

        Args:
            slots: The sessions.
            known: Whether the caller has them already; then they go on while the store is away.
        """
        self._table.note_changed(np.fromiter(slots, np.intp))
        with suppress(*([ServiceError] if known else [])):  # STORE_UNAVAILABLE
            await self.settle()
        await asyncio.gather(*self._ending, return_exceptions=True)
