"""Remembers what a store does not know yet: changed sessions, new names, ended births, named checkpoints.

A step notes one number or one array. What is noted twice is merged now and then, so this does not grow beyond
the open sessions. Ended ones are bounded by those who end sessions: they ask whether there is room.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from statewise.service.base import Slots, StoredCheckpoint


@dataclass(frozen=True, slots=True)
class TakenCheckpoints:
    """What a tick writes of named checkpoints.

    Attributes:
        new: New ones, in the order in which they were made.
        dropped: Birth and name of those that are kept no longer.
    """

    new: Sequence[StoredCheckpoint] = ()
    dropped: Sequence[tuple[int, str]] = ()

    def of_births(self, has_birth: Callable[[int], bool]) -> "TakenCheckpoints":
        """Returns those of the sessions that a function knows by their birth."""
        new = [one for one in self.new if has_birth(one.birth)]
        return TakenCheckpoints(new, [(birth, name) for birth, name in self.dropped if has_birth(birth)])


class ChangedCheckpoints:
    """Changes of named checkpoints since the last tick.

    Args:
        most: Changes from which on there should be no more, until the store knows of these.
    """

    def __init__(self, *, most: int = 65_536) -> None:
        self._most = most
        self._new = defaultdict[int, dict[str, StoredCheckpoint]](dict)
        self._dropped = defaultdict[int, dict[str, None]](dict)
        self._perhaps_known: set[tuple[int, str]] = set()
        self._changes = 0

    def note_made(self, one: StoredCheckpoint) -> None:
        """Notes a checkpoint that no store knows. Its session is noted as changed, too, by the caller."""
        self._changes += one.name not in self._new[one.birth]
        self._new[one.birth][one.name] = one

    def note_dropped(self, birth: int, name: str) -> None:
        """Notes that a session has dropped a checkpoint. One that no store can know is forgotten."""
        is_new = self._new.get(birth, {}).pop(name, None) is not None
        self._changes -= is_new
        if (not is_new or (birth, name) in self._perhaps_known) and name not in self._dropped[birth]:
            self._dropped[birth][name] = None
            self._changes += 1

    def note_ended(self, birth: int) -> None:
        """Notes that a session is over here: what the store has of it is for others, or ends with it."""
        for noted in (self._new, self._dropped):
            self._changes -= len(noted.pop(birth, ()))

    def has_room(self, changes: int) -> bool:
        """Whether there may be so many further changes."""
        return self._changes + changes <= self._most

    def new_bytes(self) -> dict[int, int]:
        """Returns the bytes of checkpoints that no store knows, by birth."""
        return {birth: sum(one.size_bytes for one in named.values()) for birth, named in self._new.items()}

    def take(self) -> TakenCheckpoints:
        """Takes all changes."""
        new = [one for named in self._new.values() for one in named.values()]
        dropped = [(birth, name) for birth, names in self._dropped.items() for name in names]
        self._new.clear()
        self._dropped.clear()
        self._perhaps_known.clear()
        self._changes = 0
        return TakenCheckpoints(new, dropped)

    def give_back(self, taken: TakenCheckpoints) -> None:
        """Notes again what was taken, and of which it is not known whether it was stored."""
        later, self._new = self._new, defaultdict(dict)
        self._perhaps_known.update((one.birth, one.name) for one in taken.new)
        self._changes = sum(len(names) for names in self._dropped.values())
        for one in taken.new:
            if one.name not in self._dropped.get(one.birth, {}):
                self.note_made(one)
        for named in later.values():
            for one in named.values():
                self.note_made(one)
        for birth, name in taken.dropped:
            if name not in self._dropped[birth]:
                self._dropped[birth][name] = None
                self._changes += 1


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
        self.checkpoints = ChangedCheckpoints()
        """Which named checkpoints have changed."""
        self._checkpoint_slots: dict[int, int] = {}

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

    def note_checkpoint(self, slot: int, one: StoredCheckpoint) -> None:
        """Notes a named checkpoint of the session in a slot that no store knows."""
        self._checkpoint_slots[one.birth] = slot
        self.checkpoints.note_made(one)
        self.note_one(slot)

    def forget_checkpoints(self, birth: int) -> None:
        """Notes that a session is over here: what the store has of it is for others, or ends with it."""
        self._checkpoint_slots.pop(birth, None)
        self.checkpoints.note_ended(birth)

    def new_checkpoint_bytes(self) -> dict[int, int]:
        """Returns the bytes of named checkpoints that no store knows, by the slots of their sessions."""
        new_bytes = self.checkpoints.new_bytes()
        return {self._checkpoint_slots[birth]: size for birth, size in new_bytes.items() if size}

    def note_ended(self, birth: int) -> None:
        """Notes the end of a session. One that no store can know is forgotten."""
        self.forget_checkpoints(birth)
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
