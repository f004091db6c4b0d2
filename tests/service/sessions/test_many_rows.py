"""Operates on many sessions in one request: other work goes on meanwhile, and later requests come later."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.helpers.caller import Caller, connect
from tests.helpers.errors import info_in
from tests.helpers.states import write_request

from statewise.service import ServiceError, Settings
from statewise.service.assembly import build_dataplane
from statewise.service.base import StepResult
from statewise.service.dataplane import Dataplane, SessionCheckpoints
from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import Reason, pack_uint64

ROWS = 1_000
IDS = [f"s{row}" for row in range(ROWS)]
LEAST_TURNS = ROWS // 128
Handles = NDArray[np.uint64]


@pytest.fixture
async def dataplane(repository: Path) -> AsyncIterator[Dataplane]:
    with ThreadPoolExecutor(1) as executor:
        dataplane = build_dataplane(Settings(repository=repository, load_in_child=False), executor=executor)
        await dataplane.models.load_all()
        yield dataplane


async def _open(dataplane: Dataplane, ids: list[str] = IDS) -> Handles:
    opened, failures = await dataplane.sessions.open("steps", 0, ids, owner="")
    assert not failures
    return np.array([one.view.handle for one in opened], np.uint64)


def _step(dataplane: Dataplane, handle: np.uint64) -> asyncio.Future[StepResult | ServiceError]:
    answer: asyncio.Future[StepResult | ServiceError] = asyncio.get_running_loop().create_future()
    handles, positions = np.array([handle], np.uint64), np.zeros(1, np.uint64)
    x = {"x": np.zeros((1, 3), np.float32)}
    dataplane.step(handles, positions, None, x, owner="", deadline_s=None, reply=answer.set_result)
    return answer


def _reasons(result: StepResult | ServiceError) -> list[Reason]:
    assert isinstance(result, StepResult)
    return [failure.reason for failure in result.failures]


async def _turns(operation: Coroutine[Any, Any, Any]) -> tuple[int, Any]:
    """Performs an operation; gives the number of turns of the event loop, and the result."""
    task, turns = asyncio.create_task(operation), 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    return turns, task.result()


async def test_the_event_loop_turns_during_every_operation(dataplane: Dataplane) -> None:
    sessions, many = dataplane.sessions, [f"t{row}" for row in range(ROWS)]
    turns, (opened, _) = await _turns(sessions.open("steps", 0, IDS, owner=""))
    assert turns >= LEAST_TURNS
    handles = np.array([one.view.handle for one in opened], np.uint64)
    turns, (resumed, _) = await _turns(sessions.resume(IDS, owner=""))
    assert (turns >= LEAST_TURNS, len(resumed)) == (True, ROWS)
    void = handles
    handles = np.array([one.view.handle for one in resumed], np.uint64)
    turns, (_, failures) = await _turns(sessions.rewind(void, np.zeros(ROWS, np.uint64), owner=""))
    assert (turns >= LEAST_TURNS, len(failures)) == (True, ROWS)
    turns, (rewound, _) = await _turns(sessions.rewind(handles, np.zeros(ROWS, np.uint64), owner=""))
    assert (turns >= LEAST_TURNS, len(rewound)) == (True, ROWS)
    turns, (tokens, _) = await _turns(sessions.snapshot(handles, owner=""))
    assert (turns >= LEAST_TURNS, len(tokens)) == (True, ROWS)
    turns, (restored, _) = await _turns(sessions.restore(tokens, many, owner=""))
    assert (turns >= LEAST_TURNS, len(restored)) == (True, ROWS)
    copies = [f"c{row}" for row in range(ROWS)]
    turns, (forked, _) = await _turns(sessions.fork(np.repeat(handles[:1], ROWS), copies, owner=""))
    assert (turns >= LEAST_TURNS, len(forked)) == (True, ROWS)
    turns, failures = await _turns(sessions.close(handles, owner=""))
    assert (turns >= LEAST_TURNS, failures) == (True, [])
    assert len(dataplane.table) == 2 * ROWS
    assert not dataplane.table.busy.any()


async def test_the_event_loop_turns_more_often_where_sessions_have_many_checkpoints(
    dataplane: Dataplane,
) -> None:
    rows, names = 32, [f"name {number}" for number in range(64)]
    checkpoints = SessionCheckpoints.beside(dataplane.sessions)
    handles = await _open(dataplane, IDS[:rows])
    for name in names:
        _, failures = await checkpoints.create(handles, [name], None, owner="")
        assert not failures
    turns, (tokens, _) = await _turns(dataplane.sessions.snapshot(handles, owner="", checkpoints=True))
    assert (turns >= rows // 8, len(tokens)) == (True, rows)
    copies = [f"c{row}" for row in range(rows)]
    turns, (restored, _) = await _turns(dataplane.sessions.restore(tokens, copies, owner=""))
    assert (turns >= rows // 8, len(restored)) == (True, rows)


async def test_later_requests_wait_for_their_sessions_and_others_go_on(dataplane: Dataplane) -> None:
    handles, (other,) = await _open(dataplane), await _open(dataplane, ["other"])
    closing = asyncio.create_task(dataplane.sessions.close(handles, owner=""))
    await asyncio.sleep(0)
    of_last, of_other = _step(dataplane, handles[-1]), _step(dataplane, other)
    assert _reasons(await of_other) == []
    assert not closing.done()
    assert await closing == []
    assert _reasons(await of_last) == [Reason.SESSION_NOT_FOUND]


async def test_a_copy_is_of_the_state_that_the_request_found(dataplane: Dataplane) -> None:
    handles = np.repeat(await _open(dataplane, ["one"]), ROWS)
    forking = asyncio.create_task(dataplane.sessions.fork(handles, IDS, owner=""))
    for _ in range(3):
        await asyncio.sleep(0)
    stepping = _step(dataplane, handles[0])
    forked, _ = await forking
    assert {one.view.position for one in forked} == {0}
    assert _reasons(await stepping) == []


async def test_who_leaves_locks_nothing(dataplane: Dataplane) -> None:
    handles = await _open(dataplane)
    closing = asyncio.create_task(dataplane.sessions.close(handles, owner=""))
    for _ in range(5):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    assert 0 < len(dataplane.table) < ROWS
    assert not dataplane.table.busy.any()
    assert _reasons(await _step(dataplane, handles[-1])) == []


async def test_a_handle_stands_once_except_in_forks(caller: Caller) -> None:
    (handle,) = await caller.open("steps", "a")
    twice = pack_uint64([handle] * 2)
    for operation in (
        {"snapshot": pb.SnapshotSessionsRequest(handles=twice)},
        {"read_states": pb.ReadStatesRequest(handles=twice)},
        {"write_states": write_request([(handle, 0)] * 2, {"state": np.zeros((1, 16), np.float32)})},
        {"rewind": pb.RewindSessionsRequest(handles=twice, positions=pack_uint64([0] * 2))},
        {"close": pb.CloseSessionsRequest(handles=twice)},
    ):
        error = await caller.ask(**operation)
        assert (info_in(error).reason, error.message) == (
            "BAD_REQUEST",
            "a handle stands twice in the request",
        )
    forked = await caller.ask(fork=pb.ForkSessionsRequest(handles=twice, session_ids=["b", "c"]))
    assert len(forked.sessions) == 2


async def test_snapshots_that_fill_more_than_a_message_are_not_taken(repository: Path) -> None:
    async with running_server(repository, message_bytes=65_536) as address, connect(address) as caller:
        handles = await caller.open("steps", *IDS[:300])
        request = pb.SnapshotSessionsRequest(handles=pack_uint64(handles))
        error = await caller.ask(snapshot=request)
        assert info_in(error).reason == "BYTES_LIMIT"
        assert "expected at most 65536: ask for fewer at once" in error.message
        fewer = pb.SnapshotSessionsRequest(handles=pack_uint64(handles[:200]))
        assert len((await caller.ask(snapshot=fewer)).tokens) == 200
