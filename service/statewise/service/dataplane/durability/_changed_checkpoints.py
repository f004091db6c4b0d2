"""Remembers which named checkpoints a store does not know yet, and which it has to drop.

Those that are new stay in memory anyhow, with their sessions. A session with new ones is noted as changed, so
it does not leave memory before the store has them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from statewise.service.stores import StoredCheckpoint


@dataclass(frozen=True, slots=True)
class TakenCheckpoints:
    """What a tick writes of named checkpoints.

    Attributes:
        new: New ones, in the order in which they were made.
        dropped: Birth and name of those that are kept no longer.
    """

    new: Sequence[StoredCheckpoint] = ()
    dropped: Sequence[tuple[int, str]] = ()


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
