"""Copies changed sessions from table and arenas into the columns of a block.

Runs on the event loop, between runs: the table and the arenas are written there alone, so what is copied of a
session is whole. Copies columns; the only objects made for a session are the names of new ones.
"""

from collections.abc import Callable

import numpy as np

from statewise.service.base import ModelKey, Slots
from statewise.service.dataplane.durability._row_flags import pack_flags
from statewise.service.session_state import SessionTable, StateArena
from statewise.service.stores import ROW, Group, Name

ArenaOf = Callable[[int], tuple[ModelKey, str, StateArena]]
"""Gives name and version, digest, and arena of a model's number."""


def gather(
    table: SessionTable, slots: Slots, arena_of: ArenaOf, *, now_ms: int, now_s: float
) -> list[tuple[Slots, Group]]:
    """Copies sessions.

    Args:
        table: The sessions.
        slots: Where they are, each once; free slots, and sessions that another server has, are left out.
        arena_of: Gives the arenas.
        now_ms: The time, in milliseconds since 1970.
        now_s: The same moment on the table's clock.

    Returns:
        For each model version the slots, and their group.
    """
    slots = slots[(table.handle[slots] != 0) & (table.numbers_of(slots)[0] != 0)]
    numbers = table.model[slots]
    found = []
    for number in np.unique(numbers).tolist():
        own = slots[numbers == number]
        found.append((own, _group(table, own, *arena_of(number), now_ms=now_ms, now_s=now_s)))
    return found


def _group(
    table: SessionTable,
    slots: Slots,
    key: ModelKey,
    digest: str,
    arena: StateArena,
    *,
    now_ms: int,
    now_s: float,
) -> Group:
    rows = np.empty(len(slots), ROW)
    rows["birth"], rows["holder"], rows["epoch"] = table.numbers_of(slots)
    rows["handle"] = table.aliases.in_place_of(table.handle[slots], slots)
    rows["position"] = table.position[slots]
    rows["previous_position"] = table.previous_position[slots]
    rows["digest"] = table.digest[slots]
    rows["used_ms"] = now_ms - np.maximum((now_s - table.last_use_s[slots]) * 1000, 0).astype(np.int64)
    index = table.current_index[slots]
    rows["flags"] = pack_flags(index, table.durabilities_of(slots), table.changes_of(slots))
    return Group(*key, digest, rows, arena.read_rows(index >> 1))


def names_of(table: SessionTable, named: dict[int, int]) -> list[Name]:
    """Returns the names of new sessions, given as slots by birth."""
    return [Name(birth, *table.name_of(slot)) for birth, slot in named.items()]
