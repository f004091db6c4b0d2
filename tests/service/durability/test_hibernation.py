"""Lets sessions leave memory, and wake by the handle that their client has: in every call, in order."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from tests.service.durability.stored_server import StoredServer, serving
from tests.service.stores.places import Open

from statewise.service import ServiceError
from statewise.service.base import StepResult
from statewise.wire import Reason

Array = np.ndarray


def u64(*numbers: int) -> Array:
    return np.array(numbers, np.uint64)


def begin(
    server: StoredServer, handles: Array, positions: Array, x: Array, *, owner: str = "ann"
) -> "asyncio.Future[StepResult | ServiceError]":
    """Sends one step of each session, and does not wait."""
    answer: asyncio.Future[StepResult | ServiceError] = asyncio.get_running_loop().create_future()
    server.dataplane.step(
        handles, positions, None, {"x": x}, owner=owner, deadline_s=None, reply=answer.set_result
    )
    return answer


async def frame(server: StoredServer, handles: Array, positions: Array, x: Array) -> StepResult:
    """Steps each session once."""
    result = await begin(server, handles, positions, x)
    assert isinstance(result, StepResult)
    return result


async def refused(server: StoredServer, handle: int, x: Array, *, owner: str = "ann") -> Reason:
    """Why a step of a session fails."""
    result = await begin(server, u64(handle), u64(0), x[:1], owner=owner)
    if isinstance(result, ServiceError):
        return result.reason
    (failure,) = result.failures
    return failure.reason


async def test_a_session_wakes_at_its_next_step_as_often_as_it_sleeps(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store) as server:
        handle = (await server.open("a"))["a"]
        other = (await server.open("other"))["other"]  # wakes in the slot that `a` had
        for position in range(0, 9, 3):
            result = await server.step(handle, position, x[position : position + 3])
            assert result.outputs["y"].tobytes() == expected[position : position + 3].tobytes()
            await server.sleep()
            await server.step(other, position, x[position : position + 3])
        retried = await server.step(handle, 6, x[6:9])
        assert retried.outputs["y"].tobytes() == expected[6:9].tobytes()
        assert (await server.step(handle, 9, x[9:])).outputs["y"].tobytes() == expected[9:].tobytes()


async def test_requests_that_wait_for_a_session_keep_their_order(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store) as server:
        handle = (await server.open("a"))["a"]
        awake = (await server.open("awake"))["awake"]
        await server.sleep(awake)
        first = [begin(server, u64(handle), u64(at), x[at : at + 1]) for at in range(3)]
        both = begin(server, u64(handle, awake), u64(3, 0), x[[3, 0]])
        # A session in memory waits, too, once a request for it waits.
        last = [begin(server, u64(awake), u64(1), x[1:2]), begin(server, u64(handle), u64(4), x[4:5])]
        results = await asyncio.gather(*first, both, *last)
        outputs = [result.outputs["y"] for result in results if isinstance(result, StepResult)]
        wanted = [expected[[0]], expected[[1]], expected[[2]], expected[[3, 0]], expected[[1]], expected[[4]]]
        assert [output.tobytes() for output in outputs] == [one.tobytes() for one in wanted]


async def test_a_frame_wakes_what_sleeps_and_refuses_what_is_not_there(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store) as server:
        handles = await server.open(*(f"s{number}" for number in range(6)))
        chosen = u64(*handles.values())
        await frame(server, chosen, u64(*[0] * 6), np.repeat(x[:1], 6, axis=0))
        await server.sleep(*chosen[::2].tolist())
        result = await frame(server, u64(*chosen, 12_345), u64(*[1] * 7), np.repeat(x[1:2], 7, axis=0))
        assert [(failure.row, failure.reason) for failure in result.failures] == [(6, "SESSION_NOT_FOUND")]
        assert result.outputs["y"].tobytes() == np.repeat(expected[1:2], 6, axis=0).tobytes()


async def test_a_session_wakes_for_everything_that_takes_its_handle(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store) as server:
        sessions = server.dataplane.sessions
        handle = (await server.open("a"))["a"]
        await server.step(handle, 0, x[:2])
        await server.step(handle, 2, x[2:4])
        await server.sleep()
        (copy,), failures = await sessions.fork(u64(handle), ["copy"], owner="ann")
        assert (failures, copy.view.position) == ([], 4)
        await server.sleep()
        (token,), failures = await sessions.snapshot(u64(handle), owner="ann")
        assert failures == []
        await server.sleep()
        (rewound,), failures = await sessions.rewind(u64(handle), u64(2), owner="ann")
        assert (failures, rewound.view.position, rewound.view.handle) == ([], 2, handle)
        await server.sleep()
        (again,), _ = await sessions.rewind(u64(handle), u64(2), owner="ann")
        assert again.view.epoch == rewound.view.epoch > copy.view.epoch
        await server.sleep()
        (restored,), failures = await sessions.restore([token], ["restored"], owner="ann")
        assert failures == []
        await server.sleep()
        for one, position in ((handle, 2), (copy.view.handle, 4), (restored.view.handle, 4)):
            result = await server.step(one, position, x[position:])
            assert result.outputs["y"].tobytes() == expected[position:].tobytes()


async def test_the_sessions_that_were_idle_longest_make_room(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store, sessions=4) as server:
        handles: dict[str, int] = {}
        for number in range(12):
            server.now_s += 1.0
            handles |= await server.open(f"s{number}")
        for position in range(3):
            for handle in handles.values():
                server.now_s += 1.0
                result = await server.step(handle, position, x[position : position + 1])
                assert result.outputs["y"].tobytes() == expected[position : position + 1].tobytes()
                assert len(server.dataplane.table) <= 4
        # What exists is resumed and never begins anew, also if it has to make room for itself.
        opened, failures = await server.dataplane.sessions.open(
            "steps", 0, ["s0", "new", "s5"], owner="ann", births=[1, 2, 3]
        )
        assert failures == []
        assert [(one.created, one.view.position) for one in opened] == [(False, 3), (True, 0), (False, 3)]


async def test_a_frame_that_fills_the_memory_wakes_whatever_slots_its_handles_name(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store, sessions=4) as server:
        groups = []
        for begin_at in (0, 4):
            handles = await server.open(*(f"s{number}" for number in range(begin_at, begin_at + 4)))
            groups.append(u64(*handles.values()))
            server.now_s += 1.0
        for position in range(3):
            for handles_of_group in groups:
                chosen = np.repeat(x[position : position + 1], 4, axis=0)
                result = await frame(server, handles_of_group, u64(*[position] * 4), chosen)
                assert not result.failures
                outputs = np.repeat(expected[position : position + 1], 4, axis=0)
                assert result.outputs["y"].tobytes() == outputs.tobytes()
                server.now_s += 1.0


async def test_bytes_of_states_make_room_too(repository: Path, open_store: Open, x: Array) -> None:
    async with serving(repository, open_store) as server:
        size = next(iter(server.dataplane.models)).arena.bytes_per_session
        size = server.dataplane.models.find("steps").arena.bytes_per_session
    async with serving(repository, open_store, state_bytes=5 * size, owner_state_bytes=3 * size) as server:
        handles = await server.open("other", owner="bob")
        for number in range(8):
            server.now_s += 1.0
            handles |= await server.open(f"s{number}")
        assert server.dataplane.table.find(server.dataplane.table.owner_number("bob"), "other") is not None
        for number in range(8):
            server.now_s += 1.0
            await server.step(handles[f"s{number}"], 0, x[:1])
            assert len(server.dataplane.table) <= 4


async def test_where_nothing_may_leave_the_limit_is_told(
    repository: Path, open_store: Open, x: Array
) -> None:
    async with serving(repository, open_store, sessions=3) as server:
        handles = await server.open("a", "b", "c")
        server.now_s += 1.0
        handles |= await server.open("d", "e")
        server.now_s += 1.0
        opened, failures = await server.dataplane.sessions.open(
            "steps", 0, [f"n{number}" for number in range(5)], owner="ann"
        )
        assert len(opened) == 3
        assert {failure.reason for failure in failures} == {Reason.SESSION_LIMIT}
        server.now_s += 1.0
        result = await begin(server, u64(*handles.values()), u64(*[0] * 5), np.repeat(x[:1], 5, axis=0))
        assert isinstance(result, ServiceError)
        assert result.reason is Reason.SESSION_LIMIT


async def test_nobody_wakes_sessions_of_others_and_guesses_are_bounded(
    repository: Path, open_store: Open, x: Array
) -> None:
    async with serving(repository, open_store) as server:
        handle = (await server.open("a"))["a"]
        await server.sleep()
        assert await refused(server, handle, x, owner="bob") is Reason.SESSION_NOT_FOUND
        assert len(server.dataplane.table) == 0
        guesses = np.arange(1, 65_537, dtype=np.uint64) << np.uint64(30)
        result = await begin(
            server, guesses, u64(*[0] * len(guesses)), np.zeros((len(guesses), 3), np.float32), owner="bob"
        )
        assert isinstance(result, StepResult)
        assert len(result.failures) == len(guesses)
        assert await refused(server, 99, x, owner="bob") is Reason.QUEUE_FULL
        with pytest.raises(ServiceError, match="were looked up in the store"):
            await server.resume("guessed", owner="bob")
        assert not (await server.step(handle, 0, x)).failures
        server.now_s += 1.0
        assert await refused(server, 99, x, owner="bob") is Reason.SESSION_NOT_FOUND


async def test_handles_are_void_after_a_restart_and_after_a_resumption(
    repository: Path, open_store: Open, x: Array
) -> None:
    async with serving(repository, open_store) as server:
        handles = await server.open("a", "b")
        await server.sleep()
        resumed = await server.resume("a")
        assert await refused(server, handles["a"], x) is Reason.SESSION_MOVED
        await server.sleep()
        assert not (await server.step(resumed["a"], 0, x)).failures
    async with serving(repository, open_store) as server:
        assert await refused(server, resumed["a"], x) is Reason.SESSION_NOT_FOUND
        assert await refused(server, handles["b"], x) is Reason.SESSION_NOT_FOUND
        assert len(server.dataplane.table) == 0


async def test_a_session_that_another_server_took_is_not_woken_here(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store) as first, serving(repository, open_store) as second:
        handle = (await first.open("a"))["a"]
        await first.step(handle, 0, x[:3])
        await first.sleep()
        taken = (await second.resume("a"))["a"]
        assert await refused(first, handle, x) is Reason.SESSION_NOT_FOUND
        assert (await second.step(taken, 3, x[3:])).outputs["y"].tobytes() == expected[3:].tobytes()


async def test_callers_that_leave_while_a_session_wakes_disturb_nobody(
    repository: Path, open_store: Open, x: Array
) -> None:
    async with serving(repository, open_store) as server:
        handles = await server.open("a", "b")
        await server.sleep()
        leaving = asyncio.ensure_future(server.dataplane.sessions.snapshot(u64(handles["a"]), owner="ann"))
        await asyncio.sleep(0)
        leaving.cancel()
        results = await asyncio.gather(
            begin(server, u64(handles["a"]), u64(0), x[:1]), begin(server, u64(handles["b"]), u64(0), x[:1])
        )
        assert all(isinstance(result, StepResult) and not result.failures for result in results)
        with pytest.raises(asyncio.CancelledError):
            await leaving


async def test_a_session_wakes_with_its_version_though_that_was_unloaded(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store) as server:
        models = server.dataplane.models
        versions = [status.version for status in models.statuses() if status.name == "steps"]
        handles = await server.open("a", "b")
        version = server.dataplane.models.find("steps").key[1]
        for handle in handles.values():
            await server.step(handle, 0, x[:3])
        await server.sleep()
        for number in versions:
            await models.unload("steps", number)
        assert not [model for model in models if model.package.name == "steps"]
        results = await asyncio.gather(
            *(begin(server, u64(handle), u64(3), x[3:4]) for handle in handles.values())
        )
        for result in results:
            assert isinstance(result, StepResult)
            assert result.outputs["y"].tobytes() == expected[3:4].tobytes()
        assert [model.key for model in models if model.package.name == "steps"] == [("steps", version)]
        with pytest.raises(ServiceError, match="no model 'steps' is served"):
            models.find("steps")
        await server.sleep()
        assert not [model for model in models if model.package.name == "steps"]
