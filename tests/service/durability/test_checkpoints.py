"""Lets ticks fail and be broken off: what they took is written by a later one; epochs are those of claims."""

import asyncio
import logging
import time
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from statewise.service.dataplane.durability import Checkpoints, StoreThread, StoreWait
from statewise.service.session_state import ChangedSessions, SessionTable
from statewise.service.stores import Block, StoreDamaged, StoreError, StoreUnavailable, Written
from statewise.service.stores.sqlite import SqliteStore


class FailingStore(SqliteStore):
    """A store that neither ends nor tidies up anything, for a reason that a test gives."""

    why: Exception | None = None

    def expire(self, *, used_before_ms: int, limit: int) -> list[int]:
        if self.why is not None:
            raise self.why
        return super().expire(used_before_ms=used_before_ms, limit=limit)


@pytest.mark.parametrize(
    "why",
    [StoreUnavailable("full"), StoreError("refused"), StoreDamaged("malformed"), ValueError("unforeseen")],
    ids=repr,
)
async def test_a_server_without_changes_learns_that_its_store_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, why: Exception
) -> None:
    opened: list[FailingStore] = []

    def open_store() -> FailingStore:
        opened.append(FailingStore(tmp_path / "sessions.db"))
        opened[0].why = why
        return opened[0]

    store = StoreThread(open_store)
    checkpoints = Checkpoints(
        SessionTable(4, clock=time.monotonic),
        store,
        kept_of=lambda number: pytest.fail(f"{number}"),
        end_moved=lambda slots, births: None,
        retention_s=1000.0,
        interval_s=0.001,
    )
    changed = asyncio.Event()
    checkpoints.away_changed = changed.set
    running = asyncio.ensure_future(checkpoints.run())
    await changed.wait()
    assert checkpoints.counts.why_away == str(why)
    for _ in range(20):
        assert not await checkpoints.tick()
    changed.clear()
    opened[0].why = None
    with caplog.at_level(logging.INFO):
        await changed.wait()
    assert not checkpoints.counts.why_away
    assert not running.done()
    running.cancel()
    assert [record.getMessage() for record in caplog.records] == [
        f"the store is not tidied up: {why}",
        f"sessions are not being stored: {why}",
        "sessions are being stored again",
    ]
    assert all(bool(record.exc_info) is isinstance(why, ValueError) for record in caplog.records[:2])
    await store.close()


async def test_what_a_store_owes_is_done_before_the_next_tick(tmp_path: Path) -> None:
    loop, portions, done = asyncio.get_running_loop(), list(range(5)), asyncio.Event()

    class OwingStore(SqliteStore):
        def tidy(self, *, seconds: float) -> bool:
            portions.pop()
            if not portions:
                loop.call_soon_threadsafe(done.set)
            return bool(portions)

    store = StoreThread(lambda: OwingStore(tmp_path / "sessions.db"))
    checkpoints = Checkpoints(
        SessionTable(4, clock=time.monotonic),
        store,
        kept_of=lambda number: pytest.fail(f"{number}"),
        end_moved=lambda slots, births: None,
        retention_s=1000.0,
        interval_s=1000.0,
    )
    running = asyncio.ensure_future(checkpoints.run())
    stored = asyncio.Event()
    checkpoints.when_stored(StoreWait(np.empty(0, np.uint64), lambda moved: stored.set()))
    await stored.wait()
    await done.wait()
    running.cancel()
    await store.close()


async def test_what_waits_for_a_store_without_answer_fails_together(tmp_path: Path) -> None:
    now_s = [100.0]
    calls: list[float] = []
    store = StoreThread(lambda: SqliteStore(tmp_path / "sessions.db"), clock=lambda: now_s[0])
    held = Event()

    def hold() -> None:
        held.wait()
        now_s[0] += 1.0

    def wait_in_vain() -> None:
        calls.append(now_s[0])
        now_s[0] += 5.0
        raise StoreUnavailable("no answer")

    holding = asyncio.ensure_future(store.call(hold))
    asking = [asyncio.ensure_future(store.call(wait_in_vain)) for _ in range(100)]
    await asyncio.sleep(0)
    held.set()
    failed = await asyncio.gather(*asking, return_exceptions=True)
    assert [str(error) for error in failed] == ["no answer"] * 100
    assert calls == [101.0]
    await holding
    assert await store.call(lambda: 7) == 7
    await store.close()


async def test_those_who_wait_for_ticks_that_fail_share_one(tmp_path: Path) -> None:
    writes: list[Block] = []

    class FullStore(SqliteStore):
        def write(self, block: Block) -> Written:
            writes.append(block)
            raise StoreUnavailable("full")

    store = StoreThread(lambda: FullStore(tmp_path / "sessions.db"))
    checkpoints = Checkpoints(
        SessionTable(4, clock=time.monotonic),
        store,
        kept_of=lambda number: pytest.fail(f"{number}"),
        end_moved=lambda slots, births: None,
        retention_s=1000.0,
    )
    checkpoints._changed.note_ended(70)
    waiting = [checkpoints.settle(np.empty(0, np.uint64)) for _ in range(100)]
    assert await asyncio.gather(*waiting) == [None] * 100
    assert len(writes) <= 2
    await store.close()


async def test_a_tick_whose_caller_leaves_loses_nothing(tmp_path: Path) -> None:
    store = StoreThread(lambda: SqliteStore(tmp_path / "sessions.db"))
    checkpoints = Checkpoints(
        SessionTable(4, clock=time.monotonic),
        store,
        kept_of=lambda number: pytest.fail(f"{number}"),
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
