"""Generates with sessions: retries, copies, rewinding, order, and all or nothing hold as for steps."""

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.helpers.caller import Caller, connect
from tests.helpers.generation import (
    Generated,
    SamplingColumns,
    generate_sessions,
    oracle_of,
    sessions_request,
)

from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import from_tensor, pack_uint64

MODELS = ["chatter", "chatter_outside"]
X = 7
A_LOT = 100_000


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    """A model that generates in the graph, and one that does not."""
    return str(request.param)


async def _begun(caller: Caller, model: str, name: str) -> int:
    """A session that has consumed the condition: position 1."""
    (handle,) = await caller.open(model, name)
    await _step(caller, handle, 0, X)
    return int(handle)


async def _step(caller: Caller, handle: int, position: int, token: int) -> None:
    reply = await caller.ask(step=caller.frame([(handle, position)], np.array([token], np.int32)))
    assert not reply.errors


async def _expect_untouched(caller: Caller, model: str, handle: int) -> None:
    """The session stands at position 1, as if nothing had been asked since."""
    settings = SamplingColumns(seed=[77])
    said = await generate_sessions(caller, [(handle, 1)], 6, settings)
    assert said.errors == {}
    assert said.values[0] == oracle_of(model).tokens([X], 6, settings, 0)


async def test_a_repeated_generation_gives_the_same_and_applies_once(caller: Caller, model: str) -> None:
    handle = await _begun(caller, model, "again")
    settings = SamplingColumns(seed=[5])
    first = await generate_sessions(caller, [(handle, 1)], 8, settings)
    assert first.positions == {0: 9}
    for _ in range(2):
        again = await generate_sessions(caller, [(handle, 1)], 8, settings)
        assert (again.values, again.positions, again.errors) == (first.values, first.positions, {})
    for other in (
        sessions_request([(handle, 1)], 7, settings),
        sessions_request([(handle, 1)], 8, SamplingColumns(seed=[10_000])),
        sessions_request([(handle, 1)], 8, SamplingColumns(settings.temperature, [3], settings.seed)),
        sessions_request([(handle, 4)], 8, settings),
    ):
        (error,) = (await caller.ask(generate=other)).errors
        assert (error.reason, error.position) == ("POSITION_MISMATCH", 9)
        assert (await caller.receive()).generate.done
    more = await generate_sessions(caller, [(handle, 9)], 4, settings)
    assert first.values[0] + more.values[0] == oracle_of(model).tokens([X], 12, settings, 0)


async def test_a_step_cannot_be_repeated_as_a_generation_nor_the_other_way(
    caller: Caller, model: str
) -> None:
    handle = await _begun(caller, model, "neither")
    settings = SamplingColumns(seed=[5])
    (token,) = (await generate_sessions(caller, [(handle, 1)], 1, settings)).values[0]
    frame = caller.frame([(handle, 1)], np.array([token], np.int32))
    assert (await caller.ask(step=frame)).errors[0].reason == "POSITION_MISMATCH"
    await _step(caller, handle, 2, token)
    refused = await generate_sessions(caller, [(handle, 2)], 1, settings)
    assert refused.errors == {0: "POSITION_MISMATCH"}


async def test_forks_snapshots_and_rewinding_carry_what_is_generated_from(caller: Caller, model: str) -> None:
    settings = SamplingColumns(seed=[5])
    expected = oracle_of(model).tokens([X], 20, settings, 0)
    handle = await _begun(caller, model, "first")
    said = await generate_sessions(caller, [(handle, 1)], 6, settings)
    fork = await caller.ask(
        fork=pb.ForkSessionsRequest(handles=pack_uint64([handle]), session_ids=["forked"])
    )
    taken = await caller.ask(snapshot=pb.SnapshotSessionsRequest(handles=pack_uint64([handle])))
    restored = await caller.ask(
        restore=pb.RestoreSessionsRequest(tokens=taken.tokens, session_ids=["restored"])
    )
    await _generate_by_unary(caller, said, handle, 7, 14, settings)
    assert said.values[0] == expected
    for reply in (fork, restored):
        (session,) = reply.sessions
        assert session.position == 7
        more = await generate_sessions(caller, [(session.handle, 7)], 14, settings)
        assert expected[:6] + more.values[0] == expected
    back = await caller.ask(
        rewind=pb.RewindSessionsRequest(handles=pack_uint64([handle]), positions=pack_uint64([7]))
    )
    assert [session.position for session in back.sessions] == [7]
    more = await generate_sessions(caller, [(handle, 7)], 14, settings)
    assert expected[:6] + more.values[0] == expected


async def _generate_by_unary(
    caller: Caller, said: Generated, handle: int, position: int, steps: int, settings: SamplingColumns
) -> None:
    """Generates by the unary call, which answers like the stream; adds what comes to `said`."""
    request = sessions_request([(handle, position)], steps, settings)
    done = False
    async for piece in caller.sequences.GenerateSessions(request):
        assert not done
        said.add(piece)
        done = piece.done
    assert done


async def test_what_is_asked_of_a_session_runs_in_that_order(caller: Caller, model: str) -> None:
    settings = SamplingColumns(seed=[5])
    handle = await _begun(caller, model, "ordered")
    first = await caller.send(generate=sessions_request([(handle, 1)], 8, settings))
    second = await caller.send(step=caller.frame([(handle, 9)], np.array([2], np.int32)))
    third = await caller.send(generate=sessions_request([(handle, 10)], 3, settings))
    ended: list[int] = []
    while len(ended) < 3:
        reply = await caller.receive()
        assert not getattr(reply, str(reply.WhichOneof("result"))).errors
        if reply.HasField("step") or reply.generate.done:
            ended.append(reply.request_id)
    assert ended == [first, second, third]


async def test_a_single_step_never_waits_for_a_generation(caller: Caller, model: str) -> None:
    """A cancelled generation leaves its session as it was."""
    handle, other = await _begun(caller, model, "long"), await _begun(caller, model, "short")
    settings = SamplingColumns()
    long = await caller.send(generate=sessions_request([(handle, 1)], A_LOT, settings))
    assert (await caller.receive()).request_id == long
    step = await caller.send(step=caller.frame([(other, 1)], np.array([2], np.int32)))
    replies: list[pb.SessionStreamResponse] = []
    while not replies or replies[-1].request_id != step:
        replies.append(await caller.receive())
    assert not any(reply.generate.done for reply in replies)
    cancel = await caller.send(cancel=pb.CancelRequest(target_request_id=long))
    while True:
        reply = await caller.receive()
        if reply.request_id == long and reply.HasField("error"):
            break
        assert reply.request_id == cancel or not reply.generate.done
    assert reply.error.code == grpc.StatusCode.CANCELLED.value[0]
    await _expect_untouched(caller, model, handle)


async def test_a_deadline_takes_everything_back(caller: Caller, model: str) -> None:
    handle = await _begun(caller, model, "late")
    settings = SamplingColumns()
    for timeout_ns in (1, 20_000_000):
        request = sessions_request([(handle, 1)], A_LOT, settings)
        request.timeout.FromNanoseconds(timeout_ns)
        number = await caller.send(generate=request)
        while not (reply := await caller.receive()).HasField("error"):
            assert reply.request_id == number
            assert not reply.generate.done
        assert reply.error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    await _expect_untouched(caller, model, handle)


async def test_a_caller_who_leaves_takes_everything_back(generative: Path, model: str) -> None:
    settings = SamplingColumns()
    async with running_server(generative) as address, connect(address) as caller:
        handle = await _begun(caller, model, "left")
        async with connect(address) as leaving:
            call = leaving.sequences.GenerateSessions(sessions_request([(handle, 1)], A_LOT, settings))
            await call.read()
            call.cancel()
        async with connect(address) as leaving:
            await leaving.send(generate=sessions_request([(handle, 1)], A_LOT, settings))
            await leaving.receive()
            leaving.stream.cancel()
        await _expect_untouched(caller, model, handle)


async def test_rows_fail_alone(caller: Caller, model: str) -> None:
    settings = SamplingColumns(seed=[4])
    handles = [await _begun(caller, model, name) for name in "abc"]
    await caller.ask(close=pb.CloseSessionsRequest(handles=pack_uint64([handles[1]])))
    said = await generate_sessions(caller, [(handles[0], 1), (handles[1], 1), (handles[2], 5)], 6, settings)
    assert said.errors == {1: "SESSION_NOT_FOUND", 2: "POSITION_MISMATCH"}
    assert said.values == {0: oracle_of(model).tokens([X], 6, settings, 0)}


async def test_many_sessions_many_requests_at_once(caller: Caller, model: str) -> None:
    """Generations of different requests share pieces and do not touch each other."""
    settings = [SamplingColumns(seed=[seed]) for seed in range(40)]
    handles = await caller.open(model, *(f"s{number}" for number in range(40)))
    numbers = {}
    for handle, own in zip(handles, settings, strict=True):
        number = await caller.send(generate=sessions_request([(handle, 0)], 25, own))
        numbers[number] = own
    values: dict[int, list[int]] = {number: [] for number in numbers}
    running = set(numbers)
    while running:
        reply = await caller.receive()
        values[reply.request_id] += [
            token for tensor in reply.generate.outputs.values() for token in from_tensor(tensor).tolist()
        ]
        if reply.generate.done:
            running.discard(reply.request_id)
    assert values == {number: oracle_of(model).tokens([X], 25, own, 0) for number, own in numbers.items()}


async def test_a_session_closed_while_it_generates_ends_after_it(caller: Caller, model: str) -> None:
    handle = await _begun(caller, model, "closing")
    settings = SamplingColumns(seed=[5])
    first = await caller.send(generate=sessions_request([(handle, 1)], 200, settings))
    second = await caller.send(close=pb.CloseSessionsRequest(handles=pack_uint64([handle])))
    ended: list[int] = []
    while len(ended) < 2:
        reply = await asyncio.wait_for(caller.receive(), 30)
        if reply.HasField("close") or reply.generate.done:
            ended.append(reply.request_id)
    assert ended == [first, second]
