"""Remembers what a store does not know yet: slots of sessions that changed, new names, ended births.

A step notes one number or one array. What is noted twice is merged now and then, so this does not grow beyond
the open sessions. Ended ones are bounded by those who end sessions: they ask whether there is room.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from statewise.service.base import Slots


class ChangedSessions:
    """Changes since the last checkpoint.

    Args:
        merge_at: Noted slots after which those that stand twice are merged.
        most_ended: Ended sessions from which on no more should be ended, until the store knows of these.
    """

    def __init__(self, *, merge_at: int = 65_536, most_ended: int = 65_536) -> None:
        self._merge_at = merge_at
        self._most_ended = most_ended
        self._single: list[int] = []
        self._many: list[Slots] = []
        self._noted = 0
        self._named: dict[int, int] = {}
        self._perhaps_known: set[int] = set()
        self._ended: list[int] = []

    def note(self, slots: Slots) -> None:
        """Notes that sessions have changed."""
        self._many.append(slots)
        self._noted += len(slots)
        if self._noted >= self._merge_at:
            self._merge()

    def note_one(self, slot: int) -> None:
        """Notes that a session has changed."""
        self._single.append(slot)
        self._noted += 1
        if self._noted >= self._merge_at:
            self._merge()

    def note_opened(self, slot: int, birth: int) -> None:
        """Notes a session that no store knows."""
        self._named[birth] = slot
        self.note_one(slot)

    def note_ended(self, birth: int) -> None:
        """Notes the end of a session. One that no store can know is forgotten."""
        if self._named.pop(birth, None) is None or birth in self._perhaps_known:
            self._ended.append(birth)

    def has_room_for_ends(self, sessions: int) -> bool:
        """Whether so many further sessions may end."""
        return len(self._ended) + sessions <= self._most_ended

    def note_stored(self, birth: int) -> None:
        """Notes that the store knows a session that was noted as opened."""
        self._named.pop(birth, None)

    @property
    def named(self) -> Mapping[int, int]:
        """Slots of the new sessions by birth; not to be changed."""
        return self._named

    @property
    def ended(self) -> Sequence[int]:
        """Births of the sessions that have ended; not to be changed."""
        return self._ended

    def take(self) -> Slots:
        """Takes the slots, sorted, each once. Some of them may be free by now."""
        self._merge()
        (slots,), self._many, self._noted = self._many, [], 0
        return slots

    def take_named(self) -> dict[int, int]:
        """Takes the slots of the new sessions by birth."""
        named, self._named = self._named, {}
        self._perhaps_known = set()
        return named

    def take_ended(self) -> list[int]:
        """Takes the births of the sessions that have ended."""
        ended, self._ended = self._ended, []
        return ended

    def give_back(self, slots: Slots, named: dict[int, int], ended: Iterable[int]) -> None:
        """Notes again what was taken, and of which it is not known whether it was stored.

        The end of a new session is noted from then on, for the store may know the session.
        """
        gone = set(self._ended)
        self._named = {birth: slot for birth, slot in named.items() if birth not in gone} | self._named
        self._perhaps_known.update(named)
        self._ended = [*ended, *self._ended]
        self.note(slots)

    def _merge(self) -> None:
        single = np.fromiter(self._single, np.intp, len(self._single))
        merged = np.unique(np.concatenate([*self._many, single]))
        self._single, self._many, self._noted = [], [merged], len(merged)
        # What is noted from now on may be as much as what is kept, or merging would cost more than noting.
        self._merge_at = max(self._merge_at, 2 * len(merged))
