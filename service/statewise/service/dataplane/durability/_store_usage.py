"""Asks the store how much owners have in it, when what this server has counted may be too old.

Several servers may open sessions in one store. Their numbers are at most ten seconds old, and new before a
request is refused by them.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from statewise.service.base import Slots
from statewise.service.dataplane.durability._checkpoints import Checkpoints
from statewise.service.dataplane.durability._store_thread import StoreThread
from statewise.service.session_state import ALL_OWNERS, SessionTable, StoredQuotas
from statewise.service.stores import Usage

_FRESH_S = 10.0


class StoreUsage:
    """Keeps quotas up to date.

    Args:
        quotas: Count what owners have.
        table: The sessions in memory.
        checkpoints: Write new sessions.
        store: The store.
        size_of: Gives the bytes that sessions in memory take in the store.
        largest: Gives the bytes that a session of any model takes at most.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        quotas: StoredQuotas,
        table: SessionTable,
        checkpoints: Checkpoints,
        store: StoreThread,
        *,
        size_of: Callable[[Slots], int],
        largest: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._quotas = quotas
        self._table = table
        self._checkpoints = checkpoints
        self._store = store
        self._size_of = size_of
        self._largest = largest
        self._clock = clock
        self._asked_s: dict[int, float] = {}

    async def refresh(self, owner: str, sessions: int, more_bytes: int = 0) -> None:
        """Makes the numbers new where they are old, or leave no room for what an owner is about to keep.

        Args:
            owner: Name of the owner.
            sessions: New sessions.
            more_bytes: Bytes beside those of new sessions.

        Raises:
            ServiceError: STORE_UNAVAILABLE.
        """
        if not self._quotas.has_limits:
            return
        number = self._table.owner_number(owner)
        age_s = self._clock() - self._asked_s.get(number, -math.inf)
        if age_s < _FRESH_S and self._quotas.has_room(
            number, sessions, sessions * self._largest() + more_bytes
        ):
            return
        owners = (number, ALL_OWNERS)
        before = [self._quotas.opened(one) for one in owners]
        new = [self._new(None if one == ALL_OWNERS else one) for one in owners]
        found = await self._store.ask(self._usage, owner)
        for one, then, added, usage in zip(owners, before, new, found, strict=True):
            # The store does not count what was opened during the call.
            sessions_now, bytes_now = self._quotas.opened(one)
            self._quotas.set_held(
                one,
                usage.sessions + added.sessions + sessions_now - then[0],
                usage.stored_bytes + added.stored_bytes + bytes_now - then[1],
            )
        self._asked_s[number] = self._clock()

    def _usage(self, owner: str) -> Sequence[Usage]:
        return self._store.store.usage(owner), self._store.store.usage()

    def _new(self, owner: int | None) -> Usage:
        """Returns how much sessions of an owner, or of all, take that no call to the store knows yet."""
        slots = self._of_owner(self._checkpoints.unnamed.values(), owner)
        changed = self._table.changed
        new_bytes = {} if changed is None else changed.new_checkpoint_bytes()
        checkpoints = sum(new_bytes[slot] for slot in self._of_owner(new_bytes, owner).tolist())
        return Usage(len(slots), self._size_of(slots) + checkpoints)

    def _of_owner(self, slots: Iterable[int], owner: int | None) -> Slots:
        """Returns those slots that hold a session of an owner, or of anybody."""
        found: Slots = np.array([*slots], np.intp)
        found = found[self._table.handle[found] != 0]
        return found if owner is None else found[self._table.owner[found] == owner]
