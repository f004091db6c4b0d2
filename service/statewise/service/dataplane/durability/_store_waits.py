"""Keeps those who wait for the store, and which of their sessions another server turned out to have.

A wait covers all that happened before it began. The tick after that ends it: with the sessions whose rows the
store left out in this tick, or in the one that was under way when the wait began.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class StoreWait:
    """One who waits.

    Attributes:
        births: Sessions that it is about, 0 where another server is known to have the session, [rows].
        act: Called once, when the wait ends, with the rows that another server has, bool [rows].
    """

    births: NDArray[np.uint64]
    act: Callable[[NDArray[np.bool_]], None]
    _moved: list[NDArray[np.uint64]] = field(default_factory=list)

    def note_moved(self, births: NDArray[np.uint64]) -> None:
        """Notes sessions that another server has."""
        self._moved.append(births)

    def end(self) -> None:
        """Ends the wait: the store has what there was to write."""
        moved = self.births == 0
        for births in self._moved:
            moved |= np.isin(self.births, births)
        try:
            self.act(moved)
        except Exception as error:
            _log.error("what waited for the store failed", exc_info=error)


class StoreWaits:
    """All who wait."""

    def __init__(self) -> None:
        self._waits: list[StoreWait] = []
        self._noting: list[list[NDArray[np.uint64]]] = []

    def add(self, wait: StoreWait) -> None:
        """Lets one wait."""
        self._waits.append(wait)

    @contextmanager
    def noting_moved(self) -> Iterator[list[NDArray[np.uint64]]]:
        """Notes meanwhile which sessions another server turns out to have, in the list that it gives."""
        noted: list[NDArray[np.uint64]] = []
        self._noting.append(noted)
        try:
            yield noted
        finally:
            self._noting = [one for one in self._noting if one is not noted]

    def discard(self, wait: StoreWait) -> None:
        """Forgets one, if it still waits."""
        if wait in self._waits:
            self._waits.remove(wait)

    def take(self) -> list[StoreWait]:
        """Takes those that a tick which begins now will end."""
        taken, self._waits = self._waits, []
        return taken

    def give_back(self, taken: Sequence[StoreWait]) -> None:
        """Lets those wait on whose tick has failed."""
        self._waits = [*taken, *self._waits]

    def note_moved(self, taken: Sequence[StoreWait], births: NDArray[np.uint64]) -> None:
        """Notes, for those of a tick and those that came since, sessions that another server has."""
        if len(births):
            for wait in (*taken, *self._waits):
                wait.note_moved(births)
            for noted in self._noting:
                noted.append(births)
