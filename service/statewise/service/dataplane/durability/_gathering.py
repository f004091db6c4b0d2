"""Copies changed sessions from table, arenas and rings into the columns of a block.

Runs on the event loop, between runs: the table and the arenas are written there alone, so what is copied of a
session is whole. Copies columns; the only objects made for a session are the names of new ones.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import ModelKey, Slots
from statewise.service.dataplane.durability._row_flags import pack_flags
from statewise.service.session_state import SessionTable
from statewise.service.session_state.kept_states import KeptStates
from statewise.service.stores import ROW, Group, Name

KeptOf = Callable[[int], tuple[ModelKey, str, KeptStates]]
"""Gives name and version, digest, and states of a model's number."""


def gather(
    table: SessionTable, slots: Slots, kept_of: KeptOf, *, now_ms: int, now_s: float
) -> list[tuple[Slots, Group]]:
    """Copies sessions.

    Args:
        table: The sessions.
        slots: Where they are, each once; free slots, and sessions that another server has, are left out.
        kept_of: Gives the states.
        now_ms: The time, in milliseconds since 1970.
        now_s: The same moment on the table's clock.

    Returns:
        For sessions of one model version that keep equally many requests: the slots, and their group.
    """
    slots = slots[(table.handle[slots] != 0) & (table.numbers_of(slots)[0] != 0)]
    numbers = table.model[slots]
    found = []
    for number in np.unique(numbers).tolist():
        of_model = slots[numbers == number]
        key, digest, kept = kept_of(number)
        keeps = kept.keeps_of(of_model)
        for keep in np.unique(keeps).tolist():
            own = of_model[keeps == keep]
            rows = _rows(table, own, keep, now_ms=now_ms, now_s=now_s)
            found.append((own, Group(*key, digest, rows, kept.read_sessions(own, keep))))
    return found


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


def names_of(table: SessionTable, named: dict[int, int]) -> list[Name]:
    """Returns the names of new sessions, given as slots by birth."""
    return [Name(birth, *table.name_of(slot)) for birth, slot in named.items()]
