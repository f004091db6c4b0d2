"""Leads from the handle that a client has to the slot of a session that woke elsewhere.

A handle names a slot. A session that left memory may wake in another one, and its client goes on with the
handle that it has: an alias, which leads to the session as long as the session is in memory.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Handles, Slots
from statewise.service.session_state._arena import reserve


class HandleAliases:
    """Aliases of the sessions in memory, at most one each.

    Args:
        capacity: Sessions at most.
    """

    def __init__(self, capacity: int) -> None:
        self._alias = reserve((capacity,), np.uint64)
        self._slot_of: dict[int, int] = {}

    def add(self, slot: int, alias: int) -> None:
        """Gives a session its alias."""
        self._alias[slot] = alias
        self._slot_of[alias] = slot

    def remove(self, slot: int) -> None:
        """Takes a session's alias away, if there is one."""
        alias = int(self._alias[slot])
        if alias:
            self._alias[slot] = 0
            self._slot_of.pop(alias, None)

    def of_slot(self, slot: int) -> int:
        """Returns the alias of a session; 0: it has none."""
        return int(self._alias[slot])

    def slots_of(self, aliases: Iterable[int]) -> list[int]:
        """Returns the slots that aliases lead to, -1 for one that leads nowhere."""
        find = self._slot_of.get
        return [find(alias, -1) for alias in aliases]

    def in_place_of(self, handles: Handles, slots: Slots) -> NDArray[np.uint64]:
        """Returns the handles that clients have: aliases where there are any, else the sessions' own."""
        aliases = self._alias[slots]
        return np.where(aliases != 0, aliases, handles)
