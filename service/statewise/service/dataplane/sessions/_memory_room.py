"""Makes room in memory: the sessions that were idle for the longest time leave it for the store.

A session may leave once the store has it as it is, and while no request waits for it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from statewise.service.base import Slots
from statewise.service.dataplane.durability import Checkpoints
from statewise.service.dataplane.sessions._session_directory import SessionDirectory
from statewise.service.dataplane.sessions._session_turns import PORTION_ROWS
from statewise.service.registry import LoadedModel
from statewise.service.session_state import SessionScan


class MemoryRoom:
    """Memory of the sessions of a server with a store.

    Args:
        directory: Knows the limits, and ends sessions.
        scan: Finds idle sessions.
        checkpoints: Know what the store has.
        awaited: Gives the slots of sessions that may not leave, for requests wait for them.
        least_sessions: Sessions that leave together at least, so that not every new session searches.
    """

    def __init__(
        self,
        directory: SessionDirectory,
        scan: SessionScan,
        checkpoints: Checkpoints,
        *,
        awaited: Callable[[], Slots],
        least_sessions: int = 64,
    ) -> None:
        self._directory = directory
        self._scan = scan
        self._checkpoints = checkpoints
        self._awaited = awaited
        self._least_sessions = least_sessions
        self._kept: Counter[int] = Counter()

    @contextmanager
    def keeping(self, slots: Iterable[int]) -> Iterator[None]:
        """Keeps sessions in memory for as long as the context lasts."""
        kept = list(slots)
        self._kept.update(kept)
        try:
            yield
        finally:
            self._kept.subtract(kept)
            for slot in kept:
                if not self._kept[slot]:
                    del self._kept[slot]

    def kept_sessions(self) -> Slots:
        """Returns the slots of sessions that stay in memory: requests wait for them, or work on them."""
        return np.concatenate([self._awaited(), np.fromiter(self._kept, np.intp, len(self._kept))])

    async def make(self, owner: int, model: LoadedModel, sessions: int) -> None:
        """Makes room for new sessions of a version. Where there is not enough, creating them says so.

        The event loop turns meanwhile, but not between the last look and the return.

        Args:
            owner: Number of their owner.
            model: The version.
            sessions: How many: one portion.
        """
        if await self._let_leave(owner, model, sessions):
            return
        # What was used since the last checkpoint may leave once the store has it.
        if await self._checkpoints.tick():
            await self._let_leave(owner, model, sessions)

    async def _let_leave(self, owner: int, model: LoadedModel, sessions: int) -> bool:
        """Lets sessions leave memory until there is room. Returns whether there is."""
        while True:
            lack = self._directory.lack_of_room(owner, model, sessions)
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
