"""Searches all sessions for idle ones and for pages of a listing, in scans of bounded length.

A scan must not hold up the event loop, however many sessions are open: it looks at a bounded number of slots
and says where the next scan starts.
"""

from collections.abc import Sequence

import numpy as np

from statewise.service.base import Slots
from statewise.service.session_state._table import SessionTable


class SessionScan:
    """Searches of one table.

    Args:
        table: The sessions.
        scan_slots: Slots that one scan looks at; 65,536 take about half a millisecond.
        scan_finds: Idle sessions that one scan finds at most.
        page_scans: Scans for one page of a listing at most.
    """

    def __init__(
        self, table: SessionTable, *, scan_slots: int = 65_536, scan_finds: int = 256, page_scans: int = 16
    ) -> None:
        self._table = table
        self._scan_slots = scan_slots
        self._scan_finds = scan_finds
        self._page_scans = page_scans
        self._next_leaving = 0

    def idle_since(self, limit_s: float, start: int = 0) -> tuple[list[int], int | None]:
        """Scans for sessions last used before a time and not running now.

        Args:
            limit_s: The time, on the table's clock.
            start: The first slot to look at.

        Returns:
            Slots, and the start of the next scan; None: this scan was the last.
        """
        table = self._table
        here = slice(start, min(start + self._scan_slots, table.used_slots))
        idle = (table.handle[here] != 0) & (table.last_use_s[here] < limit_s) & (table.busy[here] == 0)
        slots = (np.flatnonzero(idle)[: self._scan_finds + 1] + start).tolist()
        if len(slots) > self._scan_finds:
            return slots[:-1], slots[-1]
        return slots, here.stop if here.stop < table.used_slots else None

    def longest_idle(
        self, limit_s: float, count: int, *, owner: int | None = None, without: Slots
    ) -> list[int]:
        """Finds the sessions that were not used for the longest time, among some of the slots.

        A scan begins where the last one ended, so that all slots get their turn.

        Args:
            limit_s: Sessions that were used later are left out; a time on the table's clock.
            count: Sessions at most.
            owner: Number of their owner; None: any.
            without: Slots that are left out, as busy ones are.
        """
        table, used = self._table, self._table.used_slots
        for _ in range(self._page_scans):
            begin = self._next_leaving if self._next_leaving < used else 0
            here = slice(begin, min(begin + self._scan_slots, used))
            self._next_leaving = here.stop
            wanted = (table.handle[here] != 0) & (table.last_use_s[here] < limit_s) & (table.busy[here] == 0)
            if owner is not None:
                wanted &= table.owner[here] == owner
            wanted[without[(without >= here.start) & (without < here.stop)] - here.start] = False
            slots = np.flatnonzero(wanted) + begin
            if len(slots) > count:
                slots = slots[np.argpartition(table.last_use_s[slots], count)[:count]]
            if len(slots) or used <= self._scan_slots:
                found: list[int] = slots.tolist()
                return found
        return []

    def idle_by_model(self, limit_s: float) -> dict[int, int]:
        """Counts the sessions of each model number last used before a time. Looks at all slots at once."""
        table = self._table
        end = table.used_slots
        idle = (table.handle[:end] != 0) & (table.last_use_s[:end] < limit_s)
        numbers, counts = np.unique(table.model[:end][idle], return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))

    def page(
        self, start: int, size: int, *, owner: int | None, models: Sequence[int]
    ) -> tuple[list[int], int | None]:
        """Lists sessions of an owner; a page before the last may hold fewer than `size`, or none.

        Args:
            start: The first slot to look at.
            size: Sessions at most.
            owner: Number of the owner; None: all owners.
            models: Numbers of the models whose sessions are listed.

        Returns:
            Slots, and the start of the next page; None: this page was the last.
        """
        table = self._table
        found: list[int] = []
        used = table.used_slots
        end = min(start + self._page_scans * self._scan_slots, used)
        for begin in range(start, end, self._scan_slots):
            here = slice(begin, min(begin + self._scan_slots, end))
            wanted = table.handle[here] != 0
            if owner is not None:
                wanted &= table.owner[here] == owner
            wanted &= np.isin(table.model[here], models)
            found += (np.flatnonzero(wanted)[: size + 1] + begin).tolist()
            if len(found) > size:
                return found[:size], found[size]
        return found, end if end < used else None
