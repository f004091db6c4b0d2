"""Prepares a store that has lost everything: the sessions in memory are to be written to it as new ones.

What only the store had is lost. An id that another server has given to another session meanwhile stays with
that one.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Slots
from statewise.service.dataplane.durability._store_thread import StoreThread
from statewise.service.session_state import SessionTable

_PORTION_SLOTS = 1024
"""Slots whose sessions are looked up between two turns of the event loop."""


async def begin_anew(
    store: StoreThread,
    table: SessionTable,
    *,
    note_lost: Callable[[int], None],
    end_moved: Callable[[Slots, NDArray[np.uint64]], None],
) -> int:
    """Begins a store anew, and notes the sessions in memory as ones that it does not know.

    Args:
        store: The store; another server may have begun it anew already.
        table: The sessions in memory.
        note_lost: Notes a session, given by slot, as one that the store does not know.
        end_moved: Ends sessions whose id another server has given away.

    Returns:
        The number of sessions that are noted.

    Raises:
        StoreError: some are not noted; repeat it.
    """
    await store.call(store.store.begin_anew)
    noted = 0
    for begin in range(0, table.used_slots, _PORTION_SLOTS):
        slots = np.arange(begin, min(begin + _PORTION_SLOTS, table.used_slots))
        slots = slots[(table.handle[slots] != 0) & (table.births_of(slots) != 0)]
        by_owner = defaultdict[str, list[tuple[str, int, int]]](list)
        for slot, birth in zip(slots.tolist(), table.births_of(slots).tolist(), strict=True):
            owner, session_id = table.name_of(slot)
            by_owner[owner].append((session_id, slot, birth))
        for owner, own in by_owner.items():
            found = await store.call(store.store.find, owner, [session_id for session_id, _, _ in own])
            again = {
                birth: slot for (_, slot, birth), other in zip(own, found, strict=True) if other == birth
            }
            later = await _claim_again(store, table, again)
            for (_, slot, birth), other in zip(own, found, strict=True):
                if table.birth_of(slot) != birth or not table.is_open(slot):
                    continue  # it has ended meanwhile
                if other == 0 or birth in later:
                    note_lost(slot)
                    noted += 1
                else:
                    end_moved(np.array([slot]), np.array([birth], np.uint64))
    return noted


async def _claim_again(store: StoreThread, table: SessionTable, slots: Mapping[int, int]) -> set[int]:
    """Claims sessions, given as slots by birth, that are in the store already.

    Another server that had lost some to this one may have been quicker: epochs say who claimed a session
    last.

    Returns:
        Births of the sessions that are this server's.
    """
    if not slots:
        return set()
    births = list(slots)
    _, _, epochs = table.numbers_of(np.array(list(slots.values()), np.intp))
    stored = list[int | None]()
    while len(stored) < len(births):
        read = await store.call(store.store.read, births[len(stored) :])
        stored += [None if one is None else int(one.row["epoch"]) for one in read]
    later = [
        birth
        for birth, epoch, stored_epoch in zip(births, epochs.tolist(), stored, strict=True)
        if stored_epoch is not None and epoch >= stored_epoch
    ]
    left = later
    while left:
        claimed = await store.call(store.store.claim, left)
        for birth, one in zip(left, claimed, strict=False):
            if one is not None and table.birth_of(slots[birth]) == birth:
                table.note_claimed(slots[birth], int(one.row["epoch"]))
        left = left[len(claimed) :]
    return set(later)
