"""Wakes sessions that only the store has, and ends them, by id or by the handle that they had in memory.

A session that another server had is claimed first: no other server may write it from then on. Its id, birth,
and both copies of its state are those that were stored.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack

from statewise.service.base import Handles, ServiceError
from statewise.service.dataplane.durability import (
    LACKS_ROOM,
    LookUpBudget,
    StoreThread,
    UndamagedSessions,
    keep_of_stored,
)
from statewise.service.dataplane.sessions._memory_room import MemoryRoom
from statewise.service.dataplane.sessions._session_directory import SessionDirectory
from statewise.service.dataplane.sessions._session_turns import Portions
from statewise.service.registry import ModelRegistry
from statewise.service.session_state import SessionTable
from statewise.service.stores import StoredSession
from statewise.wire import Reason

_log = logging.getLogger(__name__)
_READ_TOGETHER = 256
"""Sessions that one call of the store reads."""
_ENDED_TOGETHER = 512
"""Sessions that one call of the store ends: some milliseconds, in which nothing else is stored."""


class SleepingSessions:
    """Sessions that only the store has, of one store.

    Args:
        models: The served models.
        table: The sessions in memory.
        directory: Creates sessions.
        room: Lets other sessions leave memory.
        store: The store.
        ending: Gives the births of ended sessions that the store may still have.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        models: ModelRegistry,
        table: SessionTable,
        directory: SessionDirectory,
        *,
        room: MemoryRoom,
        store: StoreThread,
        ending: Callable[[], Set[int]],
        clock: Callable[[], float],
    ) -> None:
        self._models = models
        self._table = table
        self._directory = directory
        self._room = room
        self._store = store
        self._ending = ending
        self._undamaged = UndamagedSessions(store)
        self._budget = LookUpBudget(clock=clock)
        # Two requests that claimed one session would leave an epoch in memory that is older than the store's.
        self._one_at_a_time = asyncio.Lock()

    async def wake_named(
        self, owner: int, meant: Mapping[str, int], *, guesses: bool = False
    ) -> dict[str, ServiceError]:
        """Brings sessions into memory. Ids that the store lacks, or that are in memory, are passed over.

        Args:
            owner: Number of their owner.
            meant: By id the birth that is meant; 0: any.
            guesses: Whether ids that no session has cost the owner's budget: the request creates none.

        Returns:
            By id why a session that the store has cannot be used.

        Raises:
            ServiceError: QUEUE_FULL, STORE_UNAVAILABLE; MODEL_LOADING: the version of one of them is being
                loaded.
        """
        if guesses:
            self._budget.check(owner)
        async with self._one_at_a_time:
            slots = {one: self._table.find(owner, one) for one in meant}
            missing = {one: birth for one, birth in meant.items() if slots[one] is None}
            with self._room.keeping(slot for slot in slots.values() if slot is not None):
                failures = await self._claim(owner, missing) if missing else {}
        if guesses:
            found = [one in failures or self._table.find(owner, one) is not None for one in missing]
            self._budget.note_misses(owner, found.count(False))
        return failures

    async def end(self, owner: int, handles: Handles) -> list[int]:
        """Ends those sessions of an owner, given by handle, that are not in memory, in the store.

        Returns:
            Places in `handles` of sessions that are in memory by now: they were woken meanwhile.

        Raises:
            ServiceError: QUEUE_FULL, STORE_UNAVAILABLE.
        """
        awake: list[int] = []
        name = self._table.owner_name(owner)
        for begin in range(0, len(handles), _ENDED_TOGETHER):
            some = handles[begin : begin + _ENDED_TOGETHER].tolist()
            async with self._one_at_a_time:
                self._budget.check(owner)
                births = await self._store.ask(self._store.store.find_handles, some)
                self._budget.note_misses(owner, births.count(0))
                awake += [begin + at for at, birth in enumerate(births) if self._table.has_birth(birth)]
                ended = [birth for birth in births if birth and not self._table.has_birth(birth)]
                if ended:
                    await self._store.ask(self._store.store.end, name, ended)
        return awake

    async def end_named(self, owner: int, session_id: str) -> bool:
        """Ends a session that is not in memory, in the store. Returns whether the store had it.

        Raises:
            ServiceError: QUEUE_FULL, STORE_UNAVAILABLE.
        """
        name = self._table.owner_name(owner)
        async with self._one_at_a_time:
            birth = await self.find(owner, session_id)
            ends = bool(birth) and not self._table.has_birth(birth)
            if ends:
                await self._store.ask(self._store.store.end, name, [birth])
        return ends

    async def find(self, owner: int, session_id: str) -> int:
        """Returns the birth of a session in the store, wherever it is; 0: the store has none of that name.

        Raises:
            ServiceError: QUEUE_FULL, STORE_UNAVAILABLE.
        """
        self._budget.check(owner)
        (birth,) = await self._store.ask(self._store.store.find, self._table.owner_name(owner), [session_id])
        self._budget.note_misses(owner, not birth)
        return birth

    async def read_named(self, owner: int, session_ids: Sequence[str]) -> dict[str, StoredSession]:
        """Reads sessions of the store without waking them. Those that it lacks, or has damaged, are left out.

        Raises:
            ServiceError: QUEUE_FULL, STORE_UNAVAILABLE.
        """
        self._budget.check(owner)
        name, found = self._table.owner_name(owner), dict[str, StoredSession]()
        for begin in range(0, len(session_ids), _READ_TOGETHER):
            some = session_ids[begin : begin + _READ_TOGETHER]
            births = await self._store.ask(self._store.store.find, name, some)
            self._budget.note_misses(owner, births.count(0))
            wanted = [birth for birth in births if birth and birth not in self._ending()]
            async for stored in self._undamaged.read(wanted):
                found[stored.session_id] = stored
        return found

    async def _claim(self, owner: int, meant: Mapping[str, int]) -> dict[str, ServiceError]:
        """Claims those sessions, given as births by id, that the store has.

        Returns:
            By id why a session cannot be used.
        """
        failures: dict[str, ServiceError] = {}
        found = await self._store.ask(self._store.store.find, self._table.owner_name(owner), list(meant))
        wanted: list[int] = []
        ending = self._ending()
        for session_id, birth in zip(meant, found, strict=True):
            if birth in ending:
                continue
            if birth and meant[session_id] not in (0, birth):
                message = f"the session {session_id!r} that is stored is another one than the request means"
                failures[session_id] = ServiceError(Reason.SESSION_MOVED, message)
            elif birth:
                wanted.append(birth)
        damaged: set[int] = set()
        with ExitStack() as keeping:
            async for stored in self._undamaged.claim(wanted, damaged):
                if self._table.find(owner, stored.session_id) is not None:
                    continue
                try:
                    slot = await self._adopt(owner, stored)
                except ServiceError as error:
                    if error.reason is Reason.MODEL_LOADING:  # the request may be repeated whole
                        raise
                    failures[stored.session_id] = error
                else:
                    keeping.enter_context(self._room.keeping([slot]))
        for session_id, birth in zip(meant, found, strict=True):
            if birth in damaged:
                message = f"the stored state of session {session_id!r} is damaged"
                failures[session_id] = ServiceError(Reason.SESSION_LOST, message)
        return failures

    async def wake(self, owner: int, handles: Sequence[int]) -> dict[int, ServiceError]:
        """Brings sessions into memory that left it here. Handles of none are passed over.

        A session that cannot be used any more is noted: its handle is void, with the reason.

        Args:
            owner: Number of their owner.
            handles: The handles that they had.

        Returns:
            By handle why a session cannot wake now: MODEL_LOADING, MODEL_NOT_FOUND, PACKAGE_INVALID,
            SESSION_LIMIT, BYTES_LIMIT.

        Raises:
            ServiceError: QUEUE_FULL, STORE_UNAVAILABLE.
        """
        self._budget.check(owner)
        failures: dict[int, ServiceError] = {}

        def note_damaged(handle: int) -> None:
            self._table.note_void(owner, handle, Reason.SESSION_LOST)

        async with self._one_at_a_time:
            misses = len(handles)
            name = self._table.owner_name(owner)
            async for found in self._undamaged.read_own(name, handles, note_damaged):
                misses -= len(found)
                await self._adopt_sleeping(owner, found, failures)
            self._budget.note_misses(owner, misses)
        return failures

    async def _adopt_sleeping(
        self, owner: int, found: Mapping[int, StoredSession], failures: dict[int, ServiceError]
    ) -> None:
        """Gives sessions, by handle, memory; notes why others cannot wake now."""
        # Each search for room makes a checkpoint: once it has failed, the others are not tried.
        no_room = next((error for error in failures.values() if error.reason in LACKS_ROOM), None)
        ending = self._ending()
        # One in memory by now may leave it once more, and what was read of it is out of date then.
        sleeping = [
            pair
            for pair in found.items()
            if self._table.find(owner, pair[1].session_id) is None and int(pair[1].row["birth"]) not in ending
        ]
        async for portion in Portions(sleeping):
            for handle, stored in portion:
                error = no_room or await self._adopt_or_void(owner, handle, stored)
                if error is not None:
                    failures[handle] = error
                    no_room = error if error.reason in LACKS_ROOM else no_room

    async def _adopt_or_void(self, owner: int, handle: int, stored: StoredSession) -> ServiceError | None:
        """Gives a session memory; one that cannot be used has a void handle from then on.

        Returns:
            Why it cannot wake now.
        """
        try:
            await self._adopt(owner, stored)
        except ServiceError as error:
            if error.reason not in (Reason.SESSION_LOST, Reason.MODEL_CHANGED):
                return error
            self._table.note_void(owner, handle, error.reason)
        return None

    async def _adopt(self, owner: int, stored: StoredSession) -> int:
        """Gives a session of the store, which belongs to this writer, a slot and a row. Returns the slot."""
        model = await self._models.wake(stored.model, stored.version)
        with self._models.keeping(model):  # the last of its sessions may be the one that makes room
            keep = keep_of_stored(stored, model.package.digest, model.kept)
            checkpoint_bytes = sum(one.size_bytes for one in stored.checkpoints)
            await self._room.make(owner, model.kept.session_bytes(keep) + checkpoint_bytes, 1)
            return self._directory.adopt(owner, stored, model, keep)
