"""Searches all sessions for idle ones and for pages of a listing, in scans of bounded length.

A scan must not hold up the event loop, however many sessions are open: it looks at a bounded number of slots
and says where the next scan starts.
"""

from collections.abc import Sequence

import numpy as np

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
