"""Takes what has changed since the last tick: copies sessions from table, arenas and rings into a block.

Runs on the event loop, between runs: the table and the arenas are written there alone, so what is copied of a
session is whole. Copies columns; the only objects made for a session are the names of new ones.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import ModelKey, Slots
from statewise.service.dataplane.durability._row_flags import pack_flags
from statewise.service.session_state import ChangedSessions, SessionTable, TakenCheckpoints
from statewise.service.session_state.kept_states import KeptStates
from statewise.service.stores import ROW, Block, Group, Name

_PORTION_ROWS = 1024
"""Sessions that are copied between two turns of the event loop."""

KeptOf = Callable[[int], tuple[ModelKey, str, KeptStates]]
"""Gives name and version, digest, and states of a model's number."""


@dataclass(slots=True)
class TakenChanges:
    """What a tick has taken so far.

    Attributes:
        slots: Of sessions that have changed.
        named: Slots of new sessions by birth.
        ended: Births of sessions that have ended.
        checkpoints: Named checkpoints.
        copied: Slots of each group of the block.
    """

    slots: Slots = field(default_factory=lambda: np.empty(0, np.intp))
    named: Mapping[int, int] = field(default_factory=dict)
    ended: Sequence[int] = ()
    checkpoints: TakenCheckpoints = field(default_factory=TakenCheckpoints)
    copied: list[Slots] = field(default_factory=list)


class Gathering:
    """Takes changes of one table.

    Args:
        table: The sessions.
        kept_of: Gives the states.
        clock: Seconds, monotonic; the table's.
        time_of_day: Seconds since 1970.
    """

    def __init__(
        self,
        table: SessionTable,
        kept_of: KeptOf,
        *,
        clock: Callable[[], float],
        time_of_day: Callable[[], float],
    ) -> None:
        self._table = table
        self._kept_of = kept_of
        self._clock = clock
        self._time_of_day = time_of_day
        self.sessions = table.changed = ChangedSessions()
        """Which sessions have changed."""
        self.checkpoints = self.sessions.checkpoints
        """Which of their named checkpoints have."""

    async def take(self, taken: TakenChanges) -> Block:
        """Takes all changes, and notes in `taken` what; broken off, part of them."""
        # Together: each of these checkpoints is of a session that has changed by now.
        taken.slots, taken.checkpoints = self.sessions.take(), self.checkpoints.take()
        groups = await self._copy(taken)
        # Names last: a session that is opened while others are copied may have a row already.
        taken.named, taken.ended = self._take_named(groups), self.sessions.take_ended()
        names = [Name(birth, *self._table.name_of(slot)) for birth, slot in taken.named.items()]
        return Block(names, groups, taken.ended, taken.checkpoints.new, taken.checkpoints.dropped)

    def give_back(self, taken: TakenChanges) -> None:
        """Notes again what was taken, and of which it is not known whether it was stored."""
        self.sessions.give_back(taken.slots, dict(taken.named), taken.ended)
        # A session that has ended meanwhile, or left memory, has no checkpoints that could be noted.
        self.checkpoints.give_back(taken.checkpoints.of_births(self._table.has_birth))

    def note_lost(self, slot: int) -> None:
        """Notes that the store does not know a session any more, nor its named checkpoints."""
        self._table.note_lost(slot)
        _, _, kept = self._kept_of(self._table.model_of(slot))
        for one in kept.checkpoints.of(slot):
            self.sessions.note_checkpoint(slot, one)

    async def _copy(self, taken: TakenChanges) -> list[Group]:
        """Copies sessions in portions."""
        groups: list[Group] = []
        for begin in range(0, len(taken.slots), _PORTION_ROWS):
            if begin:
                await asyncio.sleep(0)
            for own, group in self._groups(taken.slots[begin : begin + _PORTION_ROWS]):
                taken.copied.append(own)
                groups.append(group)
        return groups

    def _groups(self, slots: Slots) -> list[tuple[Slots, Group]]:
        """Copies sessions.

        Args:
            slots: Where they are, each once; free slots, and sessions that another server has, are left out.

        Returns:
            For sessions of one model version that keep equally many requests: the slots, and their group.
        """
        table = self._table
        slots = slots[(table.handle[slots] != 0) & (table.numbers_of(slots)[0] != 0)]
        now_ms, now_s = int(self._time_of_day() * 1000), self._clock()
        numbers = table.model[slots]
        found = []
        for number in np.unique(numbers).tolist():
            of_model = slots[numbers == number]
            key, digest, kept = self._kept_of(number)
            keeps = kept.keeps_of(of_model)
            for keep in np.unique(keeps).tolist():
                own = of_model[keeps == keep]
                rows = _rows(table, own, keep, now_ms=now_ms, now_s=now_s)
                found.append((own, Group(*key, digest, rows, kept.read_sessions(own, keep))))
        return found

    def _take_named(self, groups: Sequence[Group]) -> dict[int, int]:
        """Takes the new sessions that are among the copied ones; the others stay for the next tick."""
        named = self.sessions.take_named()
        if not named:
            return named
        copied = np.concatenate([np.empty(0, np.uint64), *(group.rows["birth"] for group in groups)])
        missing = set(named) - set(copied[np.isin(copied, np.array(list(named), np.uint64))].tolist())
        for birth in missing:
            self.sessions.note_opened(named.pop(birth), birth)
        return named


def _rows(table: SessionTable, slots: Slots, keep: int, *, now_ms: int, now_s: float) -> NDArray[np.void]:
    rows = np.empty(len(slots), ROW)
    rows["birth"], rows["holder"], rows["epoch"] = table.numbers_of(slots)
    rows["handle"] = table.aliases.in_place_of(table.handle[slots], slots)
    rows["position"] = table.position[slots]
    rows["previous_position"] = table.previous_position[slots]
    rows["digest"] = table.digest[slots]
    rows["used_ms"] = now_ms - np.maximum((now_s - table.last_use_s[slots]) * 1000, 0).astype(np.int64)
    index = table.current_index[slots]
    rows["flags"] = pack_flags(index, table.durabilities_of(slots), table.changes_of(slots), keep)
    return rows
