"""Lets ticks fail and be broken off: what they took is written by a later one; epochs are those of claims."""

import asyncio
import time
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from statewise.service.dataplane.durability import Checkpoints, StoreThread
from statewise.service.session_state import ChangedSessions, SessionTable
from statewise.service.stores.sqlite import SqliteStore


async def test_a_tick_whose_caller_leaves_loses_nothing(tmp_path: Path) -> None:
    store = StoreThread(lambda: SqliteStore(tmp_path / "sessions.db"))
    checkpoints = Checkpoints(
        SessionTable(4, clock=time.monotonic),
        store,
        arena_of=lambda number: pytest.fail(f"{number}"),
        end_moved=lambda slots, births: None,
        retention_s=1000.0,
    )
    changed = checkpoints._changed
    changed.note_ended(70)
    held = Event()
    holding = asyncio.ensure_future(store.call(held.wait))
    ticking = asyncio.ensure_future(checkpoints.tick())
    await asyncio.sleep(0)
    ticking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ticking
    held.set()
    await holding
    assert changed.take_ended() == [70]
    await store.close()


def test_only_a_claim_raises_the_epoch_that_is_stored() -> None:
    table = SessionTable(4, clock=time.monotonic)
    table.changed = ChangedSessions()
    slot = table.add(table.owner_number(""), "session", model=1, row=0)
    table.take_over(slot)
    assert table.view(slot).epoch == 2
    _, _, epochs = table.numbers_of(np.array([slot]))
    assert epochs.tolist() == [1]
