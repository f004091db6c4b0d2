"""Finds sessions in the store that are in no memory, and gives them memory again.

A session that wakes is claimed first: no other server may write it from then on. Its id, birth, epoch and
both copies of its state are those that were stored; its handle is a new one.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Handles, ModelKey, ServiceError, Slots, store_unavailable
from statewise.service.dataplane.durability import DURABILITY_SHIFT, Checkpoints, StoreThread, StoreUsage
from statewise.service.dataplane.sessions._session_directory import SessionDirectory
from statewise.service.dataplane.sessions._session_turns import SessionTurns
from statewise.service.dataplane.sessions._stored_replies import StoredReplies
from statewise.service.registry import LoadedModel, ModelRegistry
from statewise.service.session_state import SessionTable, StateArena, StoredQuotas
from statewise.service.stores import StoreDamaged, StoredSession, bytes_in_store
from statewise.wire import Reason

_log = logging.getLogger(__name__)
_ENDED_TOGETHER = 512
"""Sessions that one call of the store ends: some milliseconds, in which nothing else is stored."""


class StoredSessions:
    """Sessions of one store.

    Args:
        models: The served models.
        table: The sessions in memory.
        directory: Creates and ends sessions.
        turns: Orders operations.
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
            arena_of=self._arena_of,
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
            size_of=lambda number: bytes_in_store(models[number].arena.bytes_per_session),
            largest=lambda: max((bytes_in_store(one.arena.bytes_per_session) for one in models), default=0),
            clock=clock,
        )
        """Tells quotas what the store has."""
        self.replies = StoredReplies(table, self.checkpoints, wait=holds_replies)
        """Hold replies back."""
        self._required = required
        self._ending: set[asyncio.Task[None]] = set()
        # Two requests that claimed one session would leave an epoch in memory that is older than the store's.
        self._waking = asyncio.Lock()

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

    async def settle(self) -> None:
        """Returns when the store has what has happened so far. Raises ServiceError (STORE_UNAVAILABLE)."""
        await self.replies.settle(np.empty(0, np.uint64))

    async def close(self) -> None:
        """Writes what is owed, as far as the store takes it, and closes the store."""
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self.checkpoints.tick()
        await self._store.close()

    def _arena_of(self, number: int) -> tuple[ModelKey, str, StateArena]:
        model = self._models[number]
        return model.key, model.package.digest, model.arena

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
        self, owner: str, session_ids: Sequence[str], births: Sequence[int] = ()
    ) -> dict[str, ServiceError]:
        """Brings sessions into memory. Ids that the store lacks, or that are in memory, are passed over.

        Args:
            owner: Name of their owner.
            session_ids: Their ids.
            births: Births that are meant, one an id, 0: any; empty: any.

        Returns:
            By id why a session that the store has cannot be used.

        Raises:
            ServiceError: STORE_UNAVAILABLE; MODEL_LOADING: the version of one of them is being loaded.
        """
        number = self._table.owner_number(owner)
        meant = dict(zip(session_ids, births or [0] * len(session_ids), strict=True))
        await self._end_lost([self._table.find(number, one) for one, birth in meant.items() if not birth])
        async with self._waking:
            missing = {one: birth for one, birth in meant.items() if self._table.find(number, one) is None}
            return await self._claim(owner, missing) if missing else {}

    async def end_asleep(self, owner: str, handles: Handles) -> list[int]:
        """Ends those sessions of an owner, given by handle, that are not in memory, in the store.

        Returns:
            Places in `handles` of sessions that are in memory by now: they were woken meanwhile.

        Raises:
            ServiceError: STORE_UNAVAILABLE.
        """
        awake: list[int] = []
        for begin in range(0, len(handles), _ENDED_TOGETHER):
            some = handles[begin : begin + _ENDED_TOGETHER].tolist()
            async with self._waking:
                births = await self._births_of(some)
                awake += [begin + at for at, birth in enumerate(births) if self._table.has_birth(birth)]
                ended = [birth for birth in births if birth and not self._table.has_birth(birth)]
                if ended:
                    await self._store.ask(self._store.store.end, owner, ended)
        return awake

    async def end_named(self, owner: str, session_id: str) -> bool:
        """Ends a session that is not in memory, in the store. Returns whether the store had it.

        Raises:
            ServiceError: STORE_UNAVAILABLE.
        """
        async with self._waking:
            births = await self._store.ask(self._store.store.find, owner, [session_id])
            ended = [birth for birth in births if birth and not self._table.has_birth(birth)]
            if ended:
                await self._store.ask(self._store.store.end, owner, ended)
        return bool(ended)

    async def _births_of(self, handles: Sequence[int]) -> list[int]:
        """Returns the births of sessions by the handles under which they were stored; 0: there is none."""
        return await self._store.ask(self._store.store.find_handles, handles)

    async def _end_lost(self, slots: Sequence[int | None]) -> None:
        """Ends those sessions that another server has taken over, which this one may not have learned yet."""
        held = np.array([slot for slot in slots if slot is not None], np.intp)
        if len(held):
            self._table.note_changed(held)
            await self.settle()
            await asyncio.gather(*self._ending, return_exceptions=True)

    async def _claim(self, owner: str, meant: Mapping[str, int]) -> dict[str, ServiceError]:
        """Claims those sessions, given as births by id, that the store has.

        Returns:
            By id why a session cannot be used.
        """
        failures: dict[str, ServiceError] = {}
        found = await self._store.ask(self._store.store.find, owner, list(meant))
        wanted: list[int] = []
        for session_id, birth in zip(meant, found, strict=True):
            if birth and meant[session_id] not in (0, birth):
                message = f"the session {session_id!r} that is stored is another one than the request means"
                failures[session_id] = ServiceError(Reason.SESSION_MOVED, message)
            elif birth:
                wanted.append(birth)
        number = self._table.owner_number(owner)
        claimed, damaged = await self._claim_undamaged(wanted)
        for session_id, birth in zip(meant, found, strict=True):
            if birth in damaged:
                message = f"the stored state of session {session_id!r} is damaged"
                failures[session_id] = ServiceError(Reason.SESSION_LOST, message)
        for stored in claimed:
            if stored is not None and self._table.find(number, stored.session_id) is None:
                try:
                    self._adopt(number, stored)
                except ServiceError as error:
                    if error.reason is Reason.MODEL_LOADING:  # the request may be repeated whole
                        raise
                    failures[stored.session_id] = error
        return failures

    async def _claim_undamaged(self, births: list[int]) -> tuple[list[StoredSession | None], set[int]]:
        """Claims sessions. Returns them, and the births of those whose stored bytes are damaged."""
        damaged: set[int] = set()
        while births:
            try:
                return await self._store.ask(self._store.store.claim, births), damaged
            except StoreDamaged as error:
                _log.error("stored sessions are damaged: %s", error)
                damaged.update(error.births)
                births = [birth for birth in births if birth not in damaged]
        return [], damaged

    def _adopt(self, owner: int, stored: StoredSession) -> None:
        """Gives a claimed session a slot and a row."""
        model = self._version_of(stored)
        if stored.state.size != model.arena.bytes_per_session:
            raise ServiceError(
                Reason.SESSION_LOST, f"the stored state of session {stored.session_id!r} has another size"
            )
        row = stored.row
        slot = self._directory.create(model, owner, stored.session_id, origin="wake", birth=int(row["birth"]))
        model.arena.write_row(self._table.arena_index(slot) >> 1, stored.state)
        self._table.adopt(
            slot,
            holder=int(row["holder"]),
            epoch=int(row["epoch"]),
            position=int(row["position"]),
            previous=int(row["previous_position"]),
            digest=int(row["digest"]),
            parity=int(row["flags"]) & 1,
            durability=int(row["flags"]) >> DURABILITY_SHIFT & 3,
        )

    def _version_of(self, stored: StoredSession) -> LoadedModel:
        model = self._models.find(stored.model, stored.version)
        if model.package.digest != stored.digest:
            raise ServiceError(
                Reason.MODEL_CHANGED,
                f"session {stored.session_id!r} was stored with another content of model {stored.model!r} "
                f"version {stored.version}",
            )
        return model
