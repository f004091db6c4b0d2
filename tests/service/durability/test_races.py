"""Lets sessions leave memory in the moments in which other requests count on them."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.service.durability.stored_server import StoredServer, serving
from tests.service.stores.places import Open

from statewise.service import ServiceError
from statewise.service.base import StepResult
from statewise.service.dataplane.durability import SleepingHandles
from statewise.service.session_state import SessionTable
from statewise.wire import Reason

Array = np.ndarray


def begin(server: StoredServer, handle: int, x: Array) -> "asyncio.Future[StepResult | ServiceError]":
    """Sends the first step of a session, and does not wait."""
    answer: asyncio.Future[StepResult | ServiceError] = asyncio.get_running_loop().create_future()
    chosen, start = np.array([handle], np.uint64), np.zeros(1, np.uint64)
    server.dataplane.step(
        chosen, start, None, {"x": x}, owner="ann", deadline_s=None, reply=answer.set_result
    )
    return answer


async def let_time_pass(server: StoredServer, *used: int) -> None:
    """Lets a second pass in each turn of the event loop, in which some sessions are used."""
    slots = server.dataplane.table.slots_of(np.array(used, np.uint64))
    while True:
        server.now_s += 1.0
        server.dataplane.table.touch(slots)
        server.dataplane.table.note_changed(slots)
        await asyncio.sleep(0)


async def make_checkpoints(server: StoredServer) -> None:
    """Makes one checkpoint after the other."""
    while True:
        await server.stored.settle()


async def test_an_id_that_two_open_at_once_begins_once_also_where_memory_is_short(
    repository: Path, open_store: Open
) -> None:
    async with serving(repository, open_store, sessions=3) as server:
        sessions, table, store = server.dataplane.sessions, server.dataplane.table, server.store
        handles = await server.open("used", "a", "b")
        store.entered.clear()
        store.may_go_on.clear()
        first = asyncio.ensure_future(sessions.open("steps", 0, ["x", "c"], owner="ann", births=[5, 6]))
        await asyncio.to_thread(store.entered.wait)  # it asks the store, before this checkpoint
        checkpoints = asyncio.ensure_future(make_checkpoints(server))
        second = asyncio.ensure_future(sessions.open("steps", 0, ["x"], owner="ann", births=[5]))
        passing = asyncio.ensure_future(let_time_pass(server, handles["used"]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # Used after it has begun, so that both callers need one of their own to make room.
        table.touch(table.slots_of(np.array([*handles.values()], np.uint64)))
        store.may_go_on.set()
        (opened, failures), (again, failures_again) = await asyncio.gather(first, second)
        passing.cancel()
        checkpoints.cancel()
        assert (failures, failures_again) == ([], [])
        assert [one.created for one in [*opened, *again]] == [True, True, False]


@pytest.mark.parametrize("operation", ["fork", "restore"])
async def test_a_copy_never_takes_the_id_of_a_session_that_cannot_wake(
    repository: Path, tmp_path: Path, open_store: Open, operation: str
) -> None:
    async with serving(repository, open_store) as server:
        await server.open("taken", model="last")
        await server.stored.settle()
    without = shutil.copytree(repository, tmp_path / "without", ignore=shutil.ignore_patterns("last"))
    async with serving(without, open_store) as server:
        sessions = server.dataplane.sessions
        handle = np.array([(await server.open("a"))["a"]], np.uint64)
        tokens, _ = await sessions.snapshot(handle, owner="ann")
        if operation == "fork":
            done, failures = await sessions.fork(handle, ["taken"], owner="ann")
        else:
            done, failures = await sessions.restore(tokens, ["taken"], owner="ann")
        assert (done, [failure.reason for failure in failures]) == ([], [Reason.SESSION_EXISTS])
        assert [one.session_id for one in await server.listed()] == ["a", "taken"]


async def test_sessions_of_an_unloaded_version_make_room_for_each_other(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store, sessions=1) as server:
        models = server.dataplane.models
        handles: dict[str, int] = {}
        for name in ("a", "b"):
            handles |= await server.open(name)
            server.now_s += 1.0
        await server.sleep()
        for status in models.statuses():
            if status.name == "steps":
                await models.unload("steps", status.version)
        for position in range(2):
            for handle in handles.values():
                server.now_s += 1.0
                result = await server.step(handle, position, x[position : position + 1])
                assert result.outputs["y"].tobytes() == expected[position : position + 1].tobytes()
        await server.sleep()
        assert not [model for model in models if model.package.name == "steps"]


async def test_more_requests_than_memory_has_room_for_wait_for_each_other(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store, sessions=4) as server:
        handles: dict[str, int] = {}
        for number in range(24):
            server.now_s += 1.0
            handles |= await server.open(f"s{number}")
        passing = asyncio.ensure_future(let_time_pass(server))
        for position in range(3):
            some = x[position : position + 1]
            results = await asyncio.gather(*(server.step(one, position, some) for one in handles.values()))
            for result in results:
                assert result.outputs["y"].tobytes() == expected[position : position + 1].tobytes()
        passing.cancel()


async def test_a_session_that_cannot_wake_keeps_no_other_one_asleep(
    repository: Path, tmp_path: Path, open_store: Open, x: Array, expected: Array
) -> None:
    here = shutil.copytree(repository, tmp_path / "here")
    async with serving(here, open_store) as server:
        handles = [*(await server.open("first", model="last")).values(), *(await server.open("b")).values()]
        await server.sleep()
        shutil.rmtree(here / "last")
        await server.dataplane.models.follow()
        first, second = (begin(server, handle, x[:1]) for handle in handles)
        failed, done = await first, await second
        assert isinstance(failed, ServiceError)
        assert failed.reason is Reason.MODEL_NOT_FOUND
        assert isinstance(done, StepResult)
        assert done.outputs["y"].tobytes() == expected[:1].tobytes()


@pytest.mark.parametrize("call", ["step", "open", "resume"])
async def test_a_session_that_is_being_closed_does_not_wake(
    repository: Path, open_store: Open, x: Array, call: str
) -> None:
    async with serving(repository, open_store) as server:
        sessions, store = server.dataplane.sessions, server.store
        handles = await server.open("a", "b")
        await server.step(handles["a"], 0, x[:1])
        await server.stored.settle()
        await server.step(handles["b"], 0, x[:1])
        store.entered.clear()
        store.may_go_on.clear()
        checkpoint = asyncio.ensure_future(server.stored.settle())
        await asyncio.to_thread(store.entered.wait)
        closing = asyncio.ensure_future(server.close(handles["a"]))
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(server.dataplane.table) == 1
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "step": lambda: begin(server, handles["a"], x[:1]),
            "open": lambda: sessions.open("steps", 0, ["a"], owner="ann"),
            "resume": lambda: sessions.resume(["a"], owner="ann"),
        }
        later = asyncio.ensure_future(calls[call]())
        await asyncio.sleep(0)
        store.may_go_on.set()
        await checkpoint
        assert await closing == []
        if call == "step":
            assert [failure.reason for failure in (await later).failures] == [Reason.SESSION_NOT_FOUND]
            return
        opened, failures = await later
        assert [(one.created, one.view.position) for one in opened] == [(True, 0)] * (call == "open")
        assert [one.reason for one in failures] == [Reason.SESSION_NOT_FOUND] * (call == "resume")


async def test_a_session_stays_awake_until_the_caller_that_it_woke_for_goes_on() -> None:
    table = SessionTable(4, clock=lambda: 0.0)
    owner, handle = table.owner_number("ann"), 7 << 24
    kept: list[int] = []

    async def wake(owner: int, asleep: Sequence[int]) -> Mapping[int, ServiceError]:
        table.aliases.add(table.add(owner, "a", model=1, row=0), *asleep)
        # Runs between the end of the wait and the next turn of the caller.
        asyncio.get_running_loop().call_soon(lambda: kept.extend(handles.awaited_sessions().tolist()))
        return {}

    handles = SleepingHandles(table, wake)
    current = await handles.awake(np.array([handle], np.uint64), owner)
    assert table.valid_slots(current, owner=owner).tolist() == kept == [0]
    assert handles.awaited_sessions().tolist() == []


async def test_a_snapshot_of_a_session_that_sleeps_knows_nothing_of_later_steps(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store) as server:
        handle = (await server.open("a"))["a"]
        await server.sleep()
        snapshots = server.dataplane.sessions.snapshot(np.array([handle], np.uint64), owner="ann")
        snapshot = asyncio.ensure_future(snapshots)
        await asyncio.sleep(0)
        stepped = await begin(server, handle, x[:1])
        assert isinstance(stepped, StepResult)
        assert stepped.outputs["y"].tobytes() == expected[:1].tobytes()
        tokens, _ = await snapshot
        (restored,), _ = await server.dataplane.sessions.restore(tokens, ["copy"], owner="ann")
        assert restored.view.position == 0


async def test_a_session_that_is_resumed_while_its_old_handle_wakes_goes_on_with_the_new_one(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store, sessions=2) as server:
        handles = await server.open("a", "b")
        await server.step(handles["a"], 0, x[:1])
        await server.sleep()
        await server.open("other")
        server.store.may_go_on.clear()
        resuming = asyncio.ensure_future(server.resume("a"))
        await asyncio.sleep(0)
        # Its second session is read while the resumed one is in memory, which leaves it for the first one.
        woken = np.array([handles["b"], handles["a"]], np.uint64)
        snapshots = asyncio.ensure_future(server.dataplane.sessions.snapshot(woken, owner="ann"))
        await asyncio.sleep(0)
        passing = asyncio.ensure_future(let_time_pass(server))
        server.store.may_go_on.set()
        resumed = await resuming
        _, failures = await snapshots
        result = await server.step(resumed["a"], 1, x[1:2])
        passing.cancel()
        assert [failure.reason for failure in failures] == [Reason.SESSION_MOVED]
        assert list(result.failures) == []
        assert result.outputs["y"].tobytes() == expected[1:2].tobytes()


async def test_a_close_does_not_overtake_a_step_that_waits_for_its_session(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store) as server:
        handles = await server.open("a", "b")
        await server.sleep()
        server.store.entered.clear()
        server.store.may_go_on.clear()
        first = begin(server, handles["a"], x[:1])
        await asyncio.to_thread(server.store.entered.wait)  # the next one waits for this one
        stepping = begin(server, handles["b"], x[:1])
        closing = asyncio.ensure_future(server.close(handles["b"]))
        await asyncio.sleep(0)
        server.store.may_go_on.set()
        for answer in (await first, await stepping):
            assert isinstance(answer, StepResult)
            assert answer.outputs["y"].tobytes() == expected[:1].tobytes()
        assert await closing == []
        assert [one.session_id for one in await server.listed()] == ["a"]


@pytest.mark.parametrize("sleeps", [False, True])
async def test_a_copy_knows_nothing_of_steps_that_came_after_the_fork(
    repository: Path, open_store: Open, x: Array, expected: Array, sleeps: bool
) -> None:
    async with serving(repository, open_store) as server:
        handle = (await server.open("a"))["a"]
        if sleeps:
            await server.sleep()
        forks = server.dataplane.sessions.fork(np.array([handle], np.uint64), ["copy"], owner="ann")
        fork = asyncio.ensure_future(forks)
        await asyncio.sleep(0)
        stepped = await begin(server, handle, x[:1])
        assert isinstance(stepped, StepResult)
        assert stepped.outputs["y"].tobytes() == expected[:1].tobytes()
        (copy,), _ = await fork
        assert copy.view.position == 0
