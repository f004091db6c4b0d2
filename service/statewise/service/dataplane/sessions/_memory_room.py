"""Makes room in memory: the sessions that were idle for the longest time leave it for the store.

A session may leave once the store has it as it is, and while no request waits for it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import numpy as np

from statewise.service.base import Slots
from statewise.service.dataplane.durability import Checkpoints
from statewise.service.dataplane.sessions._session_directory import SessionDirectory
from statewise.service.dataplane.sessions._session_turns import PORTION_ROWS
from statewise.service.session_state import SessionScan, SessionTable

_T = TypeVar("_T")


class MemoryRoom:
    """Memory of the sessions of a server with a store.

    Args:
        table: The sessions.
        directory: Knows the limits, and ends sessions.
        scan: Finds idle sessions.
        checkpoints: Know what the store has.
        awaited: Gives the slots of sessions that may not leave, for requests wait for them.
        least_sessions: Sessions that leave together at least, so that not every new session searches.
    """

    def __init__(
        self,
        table: SessionTable,
        directory: SessionDirectory,
        scan: SessionScan,
        checkpoints: Checkpoints,
        *,
        awaited: Callable[[], Slots],
        least_sessions: int = 64,
    ) -> None:
        self._table = table
        self._directory = directory
        self._scan = scan
        self._checkpoints = checkpoints
        self._awaited = awaited
        self._least_sessions = least_sessions
        self._kept: Counter[int] = Counter()
        self._kept_names: Counter[tuple[int, str]] = Counter()

    def keeping(self, slots: Iterable[int]) -> AbstractContextManager[None]:
        """Keeps sessions in memory for as long as the context lasts."""
        return _counted(self._kept, list(slots))

    def keeping_named(self, owner: int, session_ids: Iterable[str]) -> AbstractContextManager[None]:
        """Keeps an owner's sessions of some ids in memory for as long as the context lasts.

        Those, too, that others open meanwhile: who has found that no session has an id may create one.
        """
        return _counted(self._kept_names, [(owner, session_id) for session_id in session_ids])

    def kept_sessions(self) -> Slots:
        """Returns the slots of sessions that stay in memory: requests wait for them, or work on them."""
        named = [slot for name in self._kept_names if (slot := self._table.find(*name)) is not None]
        return np.concatenate([self._awaited(), np.array([*self._kept, *named], np.intp)])

    async def make(self, owner: int, state_bytes: int, sessions: int) -> None:
        """Makes room for bytes of state. Where there is not enough, taking them says so.

        The event loop turns meanwhile, but not between the last look and the return.

        Args:
            owner: Number of their owner.
            state_bytes: The bytes.
            sessions: New sessions that they are for, one portion; 0: for a session that is open.
        """
        if await self._let_leave(owner, state_bytes, sessions):
            return
        # What was used since the last checkpoint may leave once the store has it.
        if await self._checkpoints.tick():
            await self._let_leave(owner, state_bytes, sessions)

    async def _let_leave(self, owner: int, state_bytes: int, sessions: int) -> bool:
        """Lets sessions leave memory until there is room. Returns whether there is."""
        while True:
            lack = self._directory.lack_of_room(owner, state_bytes, sessions)
            if lack is None:
                return True
            slots = self._scan.longest_idle(
                self._checkpoints.stored_until_s,
                min(max(lack.sessions, self._least_sessions), PORTION_ROWS),
                owner=owner if lack.of_owner else None,
                without=self.kept_sessions(),
            )
            if not slots:
                return False
            for slot in slots:
                self._directory.end(slot, cause="asleep")
            await asyncio.sleep(0)


@contextmanager
def _counted(counter: Counter[_T], things: Sequence[_T]) -> Iterator[None]:
    """Counts things for as long as the context lasts."""
    counter.update(things)
    try:
        yield
    finally:
        counter.subtract(things)
        for thing in things:
            if not counter[thing]:
                del counter[thing]
