"""Checks what becomes of sessions with a real store: after a restart, an idle time, an outage, a takeover."""

import asyncio
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers.models.small import SmallModels

from statewise.service import ServiceError, Settings
from statewise.service.assembly import build_dataplane
from statewise.service.base import StepResult
from statewise.service.dataplane import Dataplane
from statewise.service.dataplane.durability import StoreThread
from statewise.service.dataplane.sessions import ExpectedSessions, StoredSessions
from statewise.service.stores import Block, StoreUnavailable, Written
from statewise.service.stores.sqlite import SqliteStore

Array = np.ndarray


class Clock:
    """Seconds that pass when a test says so."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class FailingStore(SqliteStore):
    """A store on a disk that is full while `full` is set."""

    full = False

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.refused = threading.Event()

    def write(self, block: Block) -> Written:
        if self.full:
            self.refused.set()
            raise StoreUnavailable("the disk is full")
        return super().write(block)


@asynccontextmanager
async def serving(
    repository: Path, path: Path, *, clock: Callable[[], float] = time.monotonic, **chosen: Any
) -> AsyncIterator[tuple[Dataplane, StoredSessions, FailingStore]]:
    """A server's behaviour with a store, which ends without a last write, as by the end of the process."""
    opened: list[FailingStore] = []

    def open_store() -> FailingStore:
        opened.append(FailingStore(path))
        return opened[0]

    store = StoreThread(open_store)
    try:
        with ThreadPoolExecutor(1) as executor:
            chosen = {"store": "sqlite:given", "idle_timeout_s": 60.0, **chosen}  # the thread's, in truth
            settings = Settings(repository=repository, load_in_child=False, **chosen)
            dataplane = build_dataplane(settings, executor=executor, clock=clock, store=store)
            await dataplane.models.load_all()
            stored = dataplane.sessions.stored
            assert stored is not None
            yield dataplane, stored, opened[0]
    finally:
        await store.close()


async def step(dataplane: Dataplane, handle: int, position: int, x: Array) -> StepResult:
    answer: asyncio.Future[StepResult | ServiceError] = asyncio.get_running_loop().create_future()
    dataplane.step(
        np.array([handle], np.uint64),
        np.array([position], np.uint64),
        np.array([len(x)], np.uint32),
        {"x": x},
        owner="ann",
        deadline_s=None,
        reply=answer.set_result,
    )
    result = await answer
    assert isinstance(result, StepResult)
    return result


async def test_a_new_process_goes_on_where_the_store_has_the_session(
    repository: Path, tmp_path: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((9, 3)).astype(np.float32)
    expected = small_models.find("steps").run(x)[0]
    path = tmp_path / "sessions.db"
    async with serving(repository, path) as (dataplane, stored, _):
        (opened,), _ = await dataplane.sessions.open("steps", 0, ["a"], owner="ann", births=[77])
        handle = opened.view.handle
        await step(dataplane, handle, 0, x[:3])
        await step(dataplane, handle, 3, x[3:5])
        assert await stored.checkpoints.tick()
        result = await step(dataplane, handle, 5, x[5:7])
        assert result.durable_positions is not None
        assert result.durable_positions.tolist() == [5]

    async with serving(repository, path) as (dataplane, _, _):
        (resumed,), _ = await dataplane.sessions.resume(["a"], owner="ann")
        view = resumed.view
        assert (view.position, view.durable_position, view.birth) == (5, 5, 77)
        assert view.epoch > opened.view.epoch
        retried = await step(dataplane, view.handle, 3, x[3:5])
        assert retried.outputs["y"].tobytes() == expected[3:5].tobytes()
        result = await step(dataplane, view.handle, 5, x[5:])
        assert result.outputs["y"].tobytes() == expected[5:].tobytes()


async def test_a_closed_and_a_rewound_session_are_stored_so_before_the_reply(
    repository: Path, tmp_path: Path, random: np.random.Generator
) -> None:
    x = random.standard_normal((4, 3)).astype(np.float32)
    path = tmp_path / "sessions.db"
    async with serving(repository, path) as (dataplane, stored, _):
        opened, _ = await dataplane.sessions.open("steps", 0, ["closed", "rewound"], owner="ann")
        closed, rewound = (one.view.handle for one in opened)
        for handle in (closed, rewound):
            await step(dataplane, handle, 0, x[:2])
            await step(dataplane, handle, 2, x[2:])
        await stored.settle()
        await dataplane.sessions.close(np.array([closed], np.uint64), owner="ann")
        await dataplane.sessions.rewind(np.array([rewound], np.uint64), np.array([2], np.uint64), owner="ann")

    async with serving(repository, path) as (dataplane, _, _):
        resumed, failures = await dataplane.sessions.resume(["closed", "rewound"], owner="ann")
        assert [(one.view.session_id, one.view.position) for one in resumed] == [("rewound", 2)]
        assert [failure.reason for failure in failures] == ["SESSION_NOT_FOUND"]


async def test_an_idle_session_leaves_memory_and_can_be_resumed(
    repository: Path, tmp_path: Path, random: np.random.Generator
) -> None:
    x = random.standard_normal((4, 3)).astype(np.float32)
    clock = Clock()
    async with serving(repository, tmp_path / "sessions.db", clock=clock) as (dataplane, stored, store):
        (opened,), _ = await dataplane.sessions.open("steps", 0, ["a"], owner="ann")
        await step(dataplane, opened.view.handle, 0, x)
        clock.now_s += 61.0
        store.full = True
        assert not await stored.checkpoints.tick()
        assert sum(dataplane.idle_expiry.expire()) == 0  # the store does not have the session
        store.full = False
        assert await stored.checkpoints.tick()
        assert sum(dataplane.idle_expiry.expire()) == 1
        assert len(dataplane.table) == 0
        (resumed,), _ = await dataplane.sessions.resume(["a"], owner="ann")
        assert (resumed.view.position, resumed.view.birth) == (4, opened.view.birth)
        (again,), _ = await dataplane.sessions.open("steps", 0, ["a"], owner="ann")
        assert (again.created, again.view.position) == (False, 4)


async def test_while_the_store_is_away_steps_go_on_and_closing_says_so(
    repository: Path, tmp_path: Path, random: np.random.Generator
) -> None:
    x = random.standard_normal((4, 3)).astype(np.float32)
    path = tmp_path / "sessions.db"
    async with serving(repository, path) as (dataplane, stored, store):
        opened, _ = await dataplane.sessions.open("steps", 0, ["a", "b"], owner="ann")
        first, second = (one.view.handle for one in opened)
        store.full = True
        await step(dataplane, first, 0, x[:2])
        assert not await stored.checkpoints.tick()
        result = await step(dataplane, first, 2, x[2:])
        assert result.durable_positions is not None
        assert result.durable_positions.tolist() == [0]
        with pytest.raises(ServiceError, match="store"):
            await dataplane.sessions.close(np.array([second], np.uint64), owner="ann")
        store.full = False
        assert await stored.checkpoints.tick()

    async with serving(repository, path) as (dataplane, _, _):
        resumed, failures = await dataplane.sessions.resume(["a", "b"], owner="ann")
        assert [(one.view.session_id, one.view.position) for one in resumed] == [("a", 4)]
        assert [failure.reason for failure in failures] == ["SESSION_NOT_FOUND"]


async def test_a_session_belongs_to_the_server_that_resumed_it_last(
    repository: Path, tmp_path: Path, random: np.random.Generator
) -> None:
    x = random.standard_normal((6, 3)).astype(np.float32)
    path = tmp_path / "sessions.db"
    async with serving(repository, path) as (one, stored, _), serving(repository, path) as (other, new, _):
        (opened,), _ = await one.sessions.open("steps", 0, ["a"], owner="ann", births=[5])
        await step(one, opened.view.handle, 0, x[:2])
        await stored.settle()
        (resumed,), _ = await other.sessions.resume(["a"], owner="ann")
        await step(other, resumed.view.handle, 2, x[2:4])
        await new.settle()
        await step(one, opened.view.handle, 2, -x[2:4])  # it does not know yet
        assert await stored.checkpoints.tick()
        refused = await step_refused(one, opened.view.handle)
        assert refused == "SESSION_MOVED"
        _, (unknown,) = await other.sessions.resume(["a"], owner="ann", expected=ExpectedSessions([6], []))
        assert unknown.reason == "SESSION_MOVED"
        await step(other, resumed.view.handle, 4, x[4:])


async def step_refused(dataplane: Dataplane, handle: int) -> str:
    result = await step(dataplane, handle, 4, np.zeros((1, 3), np.float32))
    (failure,) = result.failures
    return failure.reason


async def test_sessions_of_a_model_that_has_changed_are_told(
    repository: Path, tmp_path: Path, random: np.random.Generator
) -> None:
    x = random.standard_normal((2, 3)).astype(np.float32)
    own, path = tmp_path / "repository", tmp_path / "sessions.db"
    shutil.copytree(repository / "steps", own / "steps")
    async with serving(own, path) as (dataplane, stored, _):
        (opened,), _ = await dataplane.sessions.open("steps", 1, ["a"], owner="ann")
        await step(dataplane, opened.view.handle, 0, x)
        await stored.settle()
    shutil.rmtree(own / "steps" / "1")
    shutil.copytree(own / "steps" / "2", own / "steps" / "1")
    async with serving(own, path) as (dataplane, _, _):
        _, (failure,) = await dataplane.sessions.resume(["a"], owner="ann")
        assert failure.reason == "MODEL_CHANGED"


async def test_a_copy_never_takes_the_id_of_a_stored_session(
    repository: Path, tmp_path: Path, random: np.random.Generator
) -> None:
    x = random.standard_normal((3, 3)).astype(np.float32)
    path = tmp_path / "sessions.db"
    async with serving(repository, path) as (dataplane, stored, _):
        (opened,), _ = await dataplane.sessions.open("steps", 0, ["a"], owner="ann")
        await step(dataplane, opened.view.handle, 0, x)
        (token,), _ = await dataplane.sessions.snapshot(
            np.array([opened.view.handle], np.uint64), owner="ann"
        )
        await stored.settle()
        (other,), _ = await dataplane.sessions.open("steps", 0, ["b"], owner="ann")
        await stored.settle()

    async with serving(repository, path) as (dataplane, _, _):
        (resumed,), _ = await dataplane.sessions.resume(["b"], owner="ann")
        handles = np.array([resumed.view.handle], np.uint64)
        _, (forked,) = await dataplane.sessions.fork(handles, ["a"], owner="ann")
        _, (restored,) = await dataplane.sessions.restore([token], ["a"], owner="ann")
        assert (forked.reason, restored.reason) == ("SESSION_EXISTS", "BAD_SNAPSHOT")
        (again,), _ = await dataplane.sessions.resume(["a"], owner="ann")
        assert (again.view.position, other.view.position) == (3, 0)


async def test_a_reply_waits_for_the_store_when_it_is_to(
    repository: Path, tmp_path: Path, random: np.random.Generator
) -> None:
    x = random.standard_normal((5, 3)).astype(np.float32)
    path = tmp_path / "sessions.db"
    async with serving(repository, path, durability="reply") as (dataplane, stored, store):
        checkpointing = asyncio.create_task(stored.checkpoints.run())
        (opened,), _ = await dataplane.sessions.open("steps", 0, ["a"], owner="ann")
        result = await step(dataplane, opened.view.handle, 0, x[:2])
        assert result.durable_positions is not None
        assert result.durable_positions.tolist() == [2]
        store.full = True
        waiting = asyncio.create_task(step(dataplane, opened.view.handle, 2, x[2:]))
        assert await asyncio.to_thread(store.refused.wait, 60.0)
        assert not waiting.done()
        store.full = False
        result = await waiting
        assert result.durable_positions is not None
        assert result.durable_positions.tolist() == [5]
        checkpointing.cancel()
        await asyncio.wait([checkpointing])

    async with serving(repository, path) as (dataplane, _, _):
        (resumed,), _ = await dataplane.sessions.resume(["a"], owner="ann")
        assert resumed.view.position == 5


async def test_two_open_sessions_never_have_one_birth(repository: Path, tmp_path: Path) -> None:
    async with serving(repository, tmp_path / "sessions.db") as (dataplane, _, _):
        (opened,), (refused,) = await dataplane.sessions.open(
            "steps", 0, ["a", "b"], owner="ann", births=[5, 5]
        )
        assert (opened.view.session_id, refused.reason) == ("a", "BAD_REQUEST")


def damage_last_state(path: Path) -> None:
    (log,) = path.parent.glob(f"{path.name}-log-*")
    data = bytearray(log.read_bytes())
    data[-1] ^= 1
    log.write_bytes(data)


async def test_a_damaged_session_is_lost_and_no_other(
    repository: Path, tmp_path: Path, random: np.random.Generator
) -> None:
    x = random.standard_normal((2, 3)).astype(np.float32)
    path = tmp_path / "sessions.db"
    async with serving(repository, path) as (dataplane, stored, _):
        for name in ("a", "b"):
            (opened,), _ = await dataplane.sessions.open("steps", 0, [name], owner="ann")
            await step(dataplane, opened.view.handle, 0, x)
            await stored.settle()
    damage_last_state(path)
    async with serving(repository, path) as (dataplane, _, _):
        resumed, (lost,) = await dataplane.sessions.resume(["a", "b"], owner="ann")
        assert [one.view.session_id for one in resumed] == ["a"]
        assert (lost.row, lost.reason) == (1, "SESSION_LOST")


async def test_who_is_refused_an_id_does_not_take_its_session(
    repository: Path, tmp_path: Path, random: np.random.Generator
) -> None:
    x = random.standard_normal((6, 3)).astype(np.float32)
    path = tmp_path / "sessions.db"
    async with serving(repository, path) as (one, stored, _), serving(repository, path) as (other, _, _):
        (opened,), _ = await one.sessions.open("steps", 0, ["a"], owner="ann", births=[5])
        await step(one, opened.view.handle, 0, x[:2])
        await stored.settle()
        (beside,), _ = await other.sessions.open("steps", 0, ["b"], owner="ann")
        handles = np.array([beside.view.handle], np.uint64)
        (token,), _ = await other.sessions.snapshot(handles, owner="ann")
        refused = [
            await other.sessions.fork(handles, ["a"], owner="ann", births=[6]),
            await other.sessions.fork(handles, ["a"], owner="ann"),
            await other.sessions.restore([token], ["a"], owner="ann"),
            await other.sessions.open("steps", 0, ["a"], owner="ann", births=[7], only_new=True),
        ]
        assert [failure.reason for _, (failure,) in refused] == ["SESSION_EXISTS"] * 4
        await step(one, opened.view.handle, 2, x[2:4])
        await stored.settle()
        assert not (await step(one, opened.view.handle, 4, x[4:])).failures
