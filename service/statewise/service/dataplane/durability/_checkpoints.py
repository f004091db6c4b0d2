"""Writes what has changed to the store, tick by tick, and notes how far each session is stored.

The event loop gathers, the store's thread writes. Nothing queues: a tick begins when the one before has
ended, and always writes the newest states. After a tick that took long, the next one comes later.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from functools import partial

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Slots
from statewise.service.dataplane.durability._checkpoint_counts import CheckpointCounts
from statewise.service.dataplane.durability._gathering import Gathering, KeptOf, TakenChanges
from statewise.service.dataplane.durability._lost_store import begin_anew
from statewise.service.dataplane.durability._store_thread import StoreThread
from statewise.service.dataplane.durability._store_waits import StoreWait, StoreWaits
from statewise.service.session_state import ChangedCheckpoints, SessionTable
from statewise.service.stores import Block, Group, StoreLost, Written

_TIDY_S = 0.05
_TIDY_PAUSE_S = 1.0
_EXPIRE_TOGETHER = 256
_SHARE = 8
"""A tick takes at most one part in this many of the time, as long as `most_s` allows."""


class Checkpoints:
    """Ticks of one table and one store.

    Args:
        table: The sessions.
        store: Where they are written to.
        kept_of: Gives the states of model versions by number.
        interval_s: Seconds between two ticks.
        most_s: Seconds between two ticks at most, however long a tick takes, unless `interval_s` is longer.
        retention_s: Seconds after which the store deletes a session that nobody used.
        end_moved: Ends sessions that another server has taken over, given by slots and births.
        clock: Seconds, monotonic; the table's.
        time_of_day: Seconds since 1970.
    """

    def __init__(
        self,
        table: SessionTable,
        store: StoreThread,
        *,
        kept_of: KeptOf,
        end_moved: Callable[[Slots, NDArray[np.uint64]], None],
        retention_s: float,
        interval_s: float = 0.1,
        most_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._changes = Gathering(table, kept_of, clock=clock, time_of_day=time_of_day)
        self._changed = self._changes.sessions
        self._store = store
        self._end_moved = end_moved
        self._interval_s = interval_s
        self._most_s = most_s
        self._retention_s = retention_s
        self._clock = clock
        self._time_of_day = time_of_day
        self._turn = asyncio.Lock()
        self.waits = StoreWaits()
        """All who wait for the store."""
        self._wanted = asyncio.Event()
        self._tidy_s = 0.0
        self._owes = False
        self._tidying_s = 0.0
        self._lost = False
        self._failed_s = -math.inf  # Begin of the last tick that failed.
        self._doubted = False  # Whether the store failed since it was last written to.
        self._ending: Sequence[int] = ()
        self.stored_until_s = -math.inf
        """The store has everything that happened before this time of the clock."""
        self.counts = CheckpointCounts()
        """What has been written."""
        self.away_changed: Callable[[], None] = lambda: None
        """Called when the store has gone away, and when it is back."""

    async def run(self) -> None:
        """Makes ticks until cancelled, and lets the store tidy up between them."""
        while True:
            pause_s = max(self._interval_s, min(_SHARE * self.counts.tick_s, self._most_s))
            if self.counts.why_away:
                await asyncio.sleep(pause_s)
            # The store does what it owes in half of the pause: one portion a tick would not keep up.
            while self._owes and pause_s > 2 * self._tidying_s:
                pause_s -= 2 * self._tidying_s
                if await self._is_wanted_within(self._tidying_s):
                    break
                await self._tidy()
            await self._is_wanted_within(pause_s)
            self._wanted.clear()
            await self.tick()
            # Also after a tick that failed: a store whose log is full takes nothing until it has been folded.
            if self._clock() >= self._tidy_s:
                await self._tidy()

    async def _is_wanted_within(self, seconds: float) -> bool:
        """Waits for that long, or until a tick is wanted. Returns whether one is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        return self._wanted.is_set()

    def when_stored(self, wait: StoreWait) -> None:
        """Ends a wait once the store has everything that has happened until now.

        What is waited for during a tick is written by the next one, all together.
        """
        self.waits.add(wait)
        self._wanted.set()

    async def settle(self, births: NDArray[np.uint64]) -> NDArray[np.bool_] | None:
        """Writes what has changed until now.

        Args:
            births: Sessions that the caller is about to tell of, as in `StoreWait`.

        Returns:
            Which of them another server has, so that nothing of theirs was written; None: the store is away.
        """
        ended: list[NDArray[np.bool_]] = []
        wait = StoreWait(births, ended.append)
        self.waits.add(wait)
        try:
            return ended[0] if await self.tick() else None
        finally:
            self.waits.discard(wait)

    @property
    def named(self) -> ChangedCheckpoints:
        """Which named checkpoints have changed."""
        return self._changes.checkpoints

    def may_keep(self, checkpoints: int) -> bool:
        """Whether so many named checkpoints may be made or dropped now, as `may_end` says of sessions."""
        return not self.counts.why_away or self.named.has_room(checkpoints)

    def may_end(self, sessions: int) -> bool:
        """Whether so many sessions may end now: the store works, or there is room to remember their ends."""
        return not self.counts.why_away or self._changed.has_room_for_ends(sessions)

    @property
    def unnamed(self) -> Mapping[int, int]:
        """Slots by birth of sessions that no call of the store has named yet; some may have ended by now."""
        return self._changed.named

    @property
    def ending(self) -> Set[int]:
        """Births of ended sessions that a call of the store which is made now may still find."""
        return {*self._ending, *self._changed.ended}

    async def tick(self) -> bool:
        """Writes what has changed until now. Returns whether the store has it."""
        asked_s = self._clock()
        async with self._turn:
            if asked_s < self._failed_s:  # a tick for what had changed by then has failed since
                return False
            begun_s = self._clock()
            waits = self.waits.take()
            taken = TakenChanges()
            try:
                if self._lost:
                    await self._begin_anew()
                block = await self._changes.take(taken)
                self._ending = taken.ended
                written = await self._write(block)
            except BaseException as error:
                self._changes.give_back(taken)
                self.waits.give_back(waits)
                if not isinstance(error, Exception):  # whoever asked for the tick has left
                    raise
                self.counts.failures += 1
                self._failed_s = begun_s
                self._note_away(error)
                if isinstance(error, StoreLost):
                    self._note_lost()
                return False
            finally:
                self._ending = ()
            self._note_back()
            if written is not None:
                self.waits.note_moved(waits, self._note_written(taken.copied, block.groups, written))
                self.counts.tick_s = self._clock() - begun_s
            self.stored_until_s = begun_s
            for wait in waits:
                wait.end()
            return True

    async def _write(self, block: Block) -> Written | None:
        """Writes a block. Where there is nothing to write, asks a store that failed whether it is back."""
        doubted, self._doubted = self._doubted, False
        if any((block.names, block.groups, block.ended, block.checkpoints, block.dropped)):
            return await self._store.call(self._store.store.write, block)
        if self.counts.why_away or doubted:
            await self._store.call(partial(self._store.store.expire, used_before_ms=0, limit=1))
        return None

    async def _tidy(self) -> None:
        """Deletes what was unused for too long, and lets the store do a portion of what it owes."""
        store = self._store.store
        before_ms = round((self._time_of_day() - self._retention_s) * 1000)
        begun_s = time.monotonic()
        try:
            ended = await self._store.call(
                partial(store.expire, used_before_ms=before_ms, limit=_EXPIRE_TOGETHER)
            )
            owes = await self._store.call(partial(store.tidy, seconds=_TIDY_S))
            self.counts.kept = await self._store.call(store.usage)
            awake = len(self._table) - len(self._changed.named)
            self.counts.asleep = max(0, self.counts.kept.sessions - awake)
        except Exception as error:
            ended, owes = [], False
            self._doubted = True
            if not self.counts.why_away:
                self._store.log.error("the store is not tidied up", error)
        self._tidying_s = time.monotonic() - begun_s
        self._owes = owes or len(ended) == _EXPIRE_TOGETHER
        if not self._owes:
            self._tidy_s = self._clock() + _TIDY_PAUSE_S

    def _note_away(self, error: Exception) -> None:
        why, self.counts.why_away = self.counts.why_away, str(error) or repr(error)
        self._store.log.error("sessions are not being stored", error)
        if not why:
            self.away_changed()

    def _note_lost(self) -> None:
        """Notes that the store has nothing: the next tick begins it anew, and no session leaves memory."""
        self._lost = True
        self.stored_until_s = -math.inf

    async def _begin_anew(self) -> None:
        """Begins the store anew. Raises StoreError; repeat it then."""
        sessions = await begin_anew(
            self._store, self._table, note_lost=self._changes.note_lost, end_moved=self._end_moved
        )
        self._lost = False
        self.counts.losses += 1
        self._store.log.lost(sessions)

    def _note_back(self) -> None:
        if self.counts.why_away:
            self._store.log.back()
            self.counts.why_away = ""
            self.away_changed()

    def _note_written(
        self, slots: Sequence[Slots], groups: Sequence[Group], written: Written
    ) -> NDArray[np.uint64]:
        """Notes what a block has changed. Returns the births of sessions that another server has."""
        self.counts.ticks += 1
        self.counts.stored_bytes += written.stored_bytes
        self.counts.rows += sum(len(group.rows) for group in groups)
        moved = np.array(written.moved, np.uint64)
        for own, group in zip(slots, groups, strict=True):
            births, positions = group.rows["birth"], group.rows["position"]
            if len(moved):
                gone = np.isin(births, moved)
                self._end_moved(own[gone], births[gone])
                own, births, positions = own[~gone], births[~gone], positions[~gone]
            self._table.note_durable(own, births, positions)
        return np.array([*written.moved, *written.kept], np.uint64)
