"""Finds where in the log the newest row of a session is.

Rows stand in a few sorted arrays, each at least twice as large as the one that came after it: adding a record
merges what is small, as a log-structured tree does. Memory is 60 bytes a session of the log, not of the
store.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from statewise.service.stores.sqlite._records import SEEN

MOST_UNSORTED = 16
"""Records that wait for the next look-up to be sorted."""
MOST_UNSORTED_ROWS = 100_000
"""A record with more is sorted at once."""

PLACE = np.dtype(
    [*((name, SEEN[name].str) for name in SEEN.names or ()), ("record", "<u8"), ("position", "<u4")]
)
"""A row as the database keeps it, the number of its record, and its place among the record's rows."""


@dataclass(slots=True)
class _Level:
    """Places sorted by birth, no birth twice."""

    places: NDArray[np.void]
    births: NDArray[np.uint64]
    by_handle: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = field(default=None)

    def find(self, births: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        at = np.minimum(np.searchsorted(self.births, births), len(self.births) - 1)
        return self.births[at] == births, at

    def births_of_handles(self, handles: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.uint64]]:
        """As of `NewestRows`."""
        if self.by_handle is None:
            # Sorted once, not looked through by an order: searchsorted would copy the column at each call.
            order = np.argsort(self.places["handle"], kind="stable")
            self.by_handle = self.places["handle"][order], self.births[order]
        held, births = self.by_handle
        begins = np.searchsorted(held, handles, "left")
        counts = np.searchsorted(held, handles, "right") - begins
        which = np.flatnonzero(counts)
        if len(which) < counts.sum():  # some births of this level share a handle
            which = np.repeat(np.arange(len(handles)), counts)
        within = np.arange(len(which)) - np.searchsorted(which, which)
        return which, births[begins[which] + within]


def _level(places: NDArray[np.void]) -> _Level:
    """Sorts places; of one birth, the last one counts."""
    births = np.ascontiguousarray(places["birth"])
    order = np.argsort(births, kind="stable")
    births = births[order]
    last = np.append(births[1:] != births[:-1], True)
    return _Level(places[order[last]], births[last])


class NewestRows:
    """Where the newest rows are, of all records of the log that have been added.

    Attributes:
        added: Number of the last record that was added; they are added in order.
    """

    def __init__(self) -> None:
        self.added = 0
        self._folded = 0
        self._levels: list[_Level] = []
        self._unsorted: list[NDArray[np.void]] = []

    def add(self, records: list[tuple[int, NDArray[np.void]]]) -> None:
        """Adds records, by number, with `SEEN` [rows] of each."""
        for number, seen in records:
            part = np.empty(len(seen), PLACE)
            for name in SEEN.names or ():
                part[name] = seen[name]
            part["record"] = number
            part["position"] = np.arange(len(seen))
            self._unsorted.append(part)
            self.added = number
            if len(self._unsorted) > MOST_UNSORTED or len(part) > MOST_UNSORTED_ROWS:
                self._sort()

    def _sort(self) -> None:
        """Sorts what was added, so that it can be found."""
        if not self._unsorted:
            return
        top = _level(np.concatenate(self._unsorted))
        self._unsorted = []
        while self._levels and len(self._levels[-1].places) < 2 * len(top.places):
            top = _level(np.concatenate([self._levels.pop().places, top.places]))
        self._levels.append(top)

    def forget(self, folded: int) -> None:
        """Forgets the rows of all records up to a number."""
        if folded <= self._folded:
            return
        self._folded = folded
        self._sort()
        self.added = max(self.added, folded)
        kept = []
        for level in self._levels:
            alive = level.places["record"] > folded
            if alive.all():
                kept.append(level)
            elif alive.any():
                kept.append(_Level(level.places[alive], level.births[alive]))
        self._levels = kept

    def find(self, births: NDArray[np.uint64]) -> NDArray[np.void]:
        """Returns `PLACE` [len(births)]; record is 0 where the log has no row of a birth."""
        self._sort()
        places = np.zeros(len(births), PLACE)
        for level in self._levels:
            hits, at = level.find(births)
            places[hits] = level.places[at[hits]]
        return places

    def births_of_handles(self, handles: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.uint64]]:
        """Returns births that have had handles in some row of the log; their newest rows may have others.

        Args:
            handles: uint64 [n].

        Returns:
            Which of the handles, and the births, [found] each.
        """
        self._sort()
        found = [level.births_of_handles(handles) for level in self._levels]
        which = np.concatenate([np.empty(0, np.intp), *(one[0] for one in found)])
        return which, np.concatenate([np.empty(0, np.uint64), *(one[1] for one in found)])

    def used_before(self, used_ms: int) -> NDArray[np.uint64]:
        """Returns the births whose newest row in the log was last used before a time."""
        self._sort()
        candidates = [level.births[level.places["used_ms"] < used_ms] for level in self._levels]
        births = np.unique(np.concatenate([np.zeros(0, np.uint64), *candidates]))
        return births[self.find(births)["used_ms"] < used_ms]
