"""Keeps states under names: made, listed, dropped, gone to and copied, once however often it is asked."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.helpers.caller import Caller, connect
from tests.helpers.errors import info_in, only_reason_of
from tests.helpers.models.small import SmallModels
from tests.service.kept.calls import (
    fork,
    kept,
    made,
    make,
    names,
    only_error,
    opened,
    packed,
    rewind,
    rewound,
)

from statewise.service.testing import running_server
from statewise.v1 import admin_pb2, sequence_pb2
from statewise.wire import from_tensor

Array = np.ndarray


@pytest.fixture
def x(random: np.random.Generator) -> Array:
    return random.standard_normal((20, 3)).astype(np.float32)


@pytest.fixture
def expected(small_models: SmallModels, x: Array) -> Array:
    outputs: Array = small_models.find("steps").run(x)[0]
    return outputs


async def test_a_session_goes_back_to_a_name_as_often_as_it_wants(
    caller: Caller, x: Array, expected: Array
) -> None:
    (session,) = await opened(caller, "a", keep=4)
    handle = session.handle
    await caller.step(handle, 0, x[:7])
    checkpoint = await made(caller, handle, "before")
    assert (checkpoint.name, checkpoint.position, checkpoint.origin) == ("before", 7, "a")
    assert checkpoint.made_at.ToSeconds() > 0
    epoch = session.epoch
    for _ in range(3):
        y = [await caller.step(handle, position, x[position]) for position in range(7, 12)]
        assert np.concatenate(y).tobytes() == expected[7:12].tobytes()
        session = await rewound(caller, handle, to="before")
        assert (session.position, kept(session), session.epoch) == (7, [], epoch + 1)
        epoch = session.epoch
    assert await names(caller, handle) == ["before"]
    assert (await caller.step(handle, 7, x[7:])).tobytes() == expected[7:].tobytes()
    session = await rewound(caller, handle, 7)
    assert (session.position, kept(session)) == (7, [])


async def test_a_name_is_made_gone_to_and_dropped_once_however_often_it_is_asked_for(
    caller: Caller, x: Array
) -> None:
    (session,) = await opened(caller, "a")
    handle = session.handle
    await caller.step(handle, 0, x[:3])
    first = await made(caller, handle, "p")
    assert await made(caller, handle, "p") == first
    await caller.step(handle, 3, x[3])
    once = (await rewind(caller, handle, 4, to="p")).sessions[0]
    again = (await rewind(caller, handle, 4, to="p")).sessions[0]
    assert (once.position, once.epoch) == (again.position, again.epoch) == (3, session.epoch + 1)
    delete = sequence_pb2.DeleteCheckpointsRequest(handles=packed(handle), names=["p"])
    for _ in range(2):
        assert not (await caller.ask(delete_checkpoints=delete)).errors
    assert await names(caller, handle) == []


async def test_another_state_does_not_take_the_name(caller: Caller, x: Array) -> None:
    (session,) = await opened(caller, "a")
    await made(caller, session.handle, "p")
    await caller.step(session.handle, 0, x[0])
    (error,) = (await make(caller, session.handle, "p")).errors
    assert error.reason == "CHECKPOINT_EXISTS"
    assert only_error(await rewind(caller, session.handle, to="q")).reason == "CHECKPOINT_NOT_FOUND"
    delete = sequence_pb2.DeleteCheckpointsRequest(handles=packed(session.handle), names=["p"])
    await caller.ask(delete_checkpoints=delete)
    assert (await made(caller, session.handle, "p")).position == 1


async def test_a_position_that_is_named_must_be_the_sessions(caller: Caller, x: Array) -> None:
    (session,) = await opened(caller, "a")
    (error,) = (await make(caller, session.handle, "p", 1)).errors
    assert (error.reason, error.position) == ("POSITION_MISMATCH", 0)
    await made(caller, session.handle, "p")
    await caller.step(session.handle, 0, x[:2])
    error = only_error(await rewind(caller, session.handle, 1, to="p"))
    assert (error.reason, error.position) == ("POSITION_MISMATCH", 2)
    assert (await rewound(caller, session.handle, 2, to="p")).position == 0


async def test_a_session_at_the_state_of_a_checkpoint_forgets_its_requests_when_it_goes_there(
    caller: Caller, x: Array
) -> None:
    (session,) = await opened(caller, "a", keep=3)
    await caller.step(session.handle, 0, x[0])
    await caller.step(session.handle, 1, x[1])
    await made(caller, session.handle, "here")
    session = await rewound(caller, session.handle, to="here")
    assert (session.position, kept(session)) == (2, [])
    retried = await caller.ask(step=caller.frame([(session.handle, 1)], x[1:2]))
    assert [error.reason for error in retried.errors] == ["POSITION_MISMATCH"]


async def test_copies_begin_at_a_name_without_the_names(caller: Caller, x: Array, expected: Array) -> None:
    (session,) = await opened(caller, "a", keep=2)
    await caller.step(session.handle, 0, x[:5])
    await made(caller, session.handle, "p")
    await caller.step(session.handle, 5, x[5:9])
    twin = await fork(caller, session.handle, "b", at="p")
    assert (twin.position, twin.keep, await names(caller, twin.handle)) == (5, 2, [])
    assert (await caller.step(twin.handle, 5, x[5:])).tobytes() == expected[5:].tobytes()
    assert (await fork(caller, session.handle, "c")).position == 9
    request = sequence_pb2.ForkSessionsRequest(
        handles=packed(session.handle, session.handle), session_ids=["d", "e"], checkpoints=["", "nowhere"]
    )
    reply = await caller.ask(fork=request)
    assert [one.position for one in reply.sessions] == [9]
    assert [(error.row, error.reason) for error in reply.errors] == [(1, "CHECKPOINT_NOT_FOUND")]


async def test_rows_have_names_of_their_own_and_fail_alone(caller: Caller, x: Array) -> None:
    sessions = await opened(caller, "a", "b", "c")
    handles = [session.handle for session in sessions]
    request = sequence_pb2.CreateCheckpointsRequest(handles=packed(*handles, 77), names=["p", "q", "", "r"])
    reply = await caller.ask(create_checkpoints=request)
    assert [one.name for one in reply.checkpoints] == ["p", "q"]
    assert [(error.row, error.reason) for error in reply.errors] == [
        (2, "BAD_REQUEST"),
        (3, "SESSION_NOT_FOUND"),
    ]
    listed = await caller.ask(
        list_checkpoints=sequence_pb2.ListCheckpointsRequest(handles=packed(*reversed(handles)))
    )
    assert [[one.name for one in session.checkpoints] for session in listed.sessions] == [[], ["q"], ["p"]]
    await caller.step(handles[0], 0, x[0])
    back = sequence_pb2.RewindSessionsRequest(handles=packed(*handles), checkpoints=["p"])
    reply = await caller.ask(rewind=back)
    assert [one.session_id for one in reply.sessions] == ["a"]
    assert [(one.row, one.reason) for one in reply.errors] == [
        (1, "CHECKPOINT_NOT_FOUND"),
        (2, "CHECKPOINT_NOT_FOUND"),
    ]


@pytest.mark.parametrize("name", ["", "n" * 129, "ä" * 65, "a\nb", "\x7f"])
async def test_a_name_that_cannot_be_shown_or_is_too_long_is_refused(caller: Caller, name: str) -> None:
    (session,) = await opened(caller, "a")
    (error,) = (await make(caller, session.handle, name)).errors
    assert error.reason == "BAD_REQUEST"
    await made(caller, session.handle, "ä" * 64)


@pytest.mark.parametrize(
    ("handles", "named"), [((1, 1), ["p"]), ((1, 2), ["p", "q", "r"]), ((1, 2), []), ((), ["p"])]
)
async def test_columns_that_do_not_fit_are_refused_as_a_whole(
    address: str, handles: tuple[int, ...], named: list[str]
) -> None:
    async with connect(address) as caller:
        request = sequence_pb2.CreateCheckpointsRequest(handles=packed(*handles), names=named)
        status = await caller.ask(create_checkpoints=request)
        assert info_in(status).reason in ("BAD_REQUEST", "BAD_TENSOR")


async def test_unary_calls_do_the_same(caller: Caller, x: Array) -> None:
    (session,) = await opened(caller, "a")
    handles = packed(session.handle)
    create = sequence_pb2.CreateCheckpointsRequest(handles=handles, names=["p"])
    (checkpoint,) = (await caller.sequences.CreateCheckpoints(create)).checkpoints
    listed = await caller.sequences.ListCheckpoints(sequence_pb2.ListCheckpointsRequest(handles=handles))
    assert list(listed.sessions[0].checkpoints) == [checkpoint]
    info = await caller.admin.GetSession(admin_pb2.GetSessionRequest(session_id="a"))
    assert (list(info.checkpoints), info.session.checkpoint_bytes) == ([checkpoint], checkpoint.size_bytes)
    delete = sequence_pb2.DeleteCheckpointsRequest(handles=handles, names=["p"])
    await caller.sequences.DeleteCheckpoints(delete)
    info = await caller.admin.GetSession(admin_pb2.GetSessionRequest(session_id="a"))
    assert (list(info.checkpoints), info.session.checkpoint_bytes) == ([], 0)


async def test_checkpoints_are_counted_bounded_and_freed(repository: Path) -> None:
    async with (
        running_server(repository=repository, session_checkpoints=2) as address,
        connect(address) as caller,
    ):
        (session,) = await opened(caller, "a")

        async def state_bytes() -> int:
            report = await anext(aiter(caller.admin.WatchStats(admin_pb2.WatchStatsRequest())))
            return sum(one.state_bytes for one in report.models)

        copies = await state_bytes()
        sizes = [(await made(caller, session.handle, name)).size_bytes for name in ("p", "long name")]
        assert sizes[1] - sizes[0] == len("long name") - 1
        assert sizes[0] == copies // 2 + 20 + 2
        assert await state_bytes() == copies + sum(sizes)
        (error,) = (await make(caller, session.handle, "third")).errors
        assert error.reason == "BYTES_LIMIT"
        await made(caller, session.handle, "p")
        close = sequence_pb2.CloseSessionsRequest(handles=packed(session.handle))
        await caller.ask(close=close)
        assert await state_bytes() == 0
        (session,) = await opened(caller, "a")
        assert await names(caller, session.handle) == []


@pytest.mark.parametrize("limit", ["state_bytes", "owner_state_bytes"])
async def test_checkpoints_without_room_are_refused_and_steps_go_on(
    repository: Path, limit: str, x: Array
) -> None:
    async with running_server(repository=repository) as address, connect(address) as caller:
        await opened(caller, "a")
        report = await anext(aiter(caller.admin.WatchStats(admin_pb2.WatchStatsRequest())))
        copies = sum(one.state_bytes for one in report.models)
    settings: dict[str, Any] = {limit: 2 * copies}
    async with running_server(repository=repository, **settings) as address, connect(address) as caller:
        (session,) = await opened(caller, "a")
        await made(caller, session.handle, "p")
        (error,) = (await make(caller, session.handle, "q")).errors
        assert error.reason == "BYTES_LIMIT"
        await caller.step(session.handle, 0, x[0])
        delete = sequence_pb2.DeleteCheckpointsRequest(handles=packed(session.handle), names=["p"])
        await caller.ask(delete_checkpoints=delete)
        await made(caller, session.handle, "q")


async def test_a_listing_that_is_longer_than_a_message_is_refused(repository: Path) -> None:
    async with (
        running_server(repository=repository, message_bytes=2**16) as address,
        connect(address) as caller,
    ):
        handles = [one.handle for one in await opened(caller, *(f"s{number}" for number in range(16)))]
        for number in range(30):
            request = sequence_pb2.CreateCheckpointsRequest(
                handles=packed(*handles), names=[f"{number:0128}"]
            )
            assert not (await caller.ask(create_checkpoints=request)).errors
        listed = sequence_pb2.ListCheckpointsRequest(handles=packed(*handles))
        with pytest.raises(grpc.RpcError) as refusal:
            await caller.sequences.ListCheckpoints(listed)
        assert only_reason_of(refusal.value) == "BYTES_LIMIT"
        assert len(await names(caller, handles[0])) == 30


async def test_steps_checkpoints_and_rewinds_in_flight_together_keep_their_order(
    caller: Caller, x: Array, expected: Array
) -> None:
    """All are sent before the first reply is read; they are answered as if each had waited."""
    (session,) = await opened(caller, "a", keep=8)
    handle = session.handle
    sent: dict[int, str] = {}

    async def send(kind: str, **operation: object) -> None:
        sent[await caller.send(**operation)] = kind

    for lap in range(4):
        base = 2 * lap
        await send("step", step=caller.frame([(handle, base)], x[base : base + 1]))
        name = f"p{lap}"
        await send(
            "make",
            create_checkpoints=sequence_pb2.CreateCheckpointsRequest(
                handles=packed(handle), names=[name], positions=packed(base + 1)
            ),
        )
        await send("step", step=caller.frame([(handle, base + 1)], x[base + 1 : base + 3], steps=[2]))
        await send(
            "back",
            rewind=sequence_pb2.RewindSessionsRequest(
                handles=packed(handle), positions=packed(base + 3), checkpoints=[name]
            ),
        )
        await send("step", step=caller.frame([(handle, base + 1)], x[base + 1 : base + 2]))
    replies = {}
    for _ in sent:
        reply = await caller.receive()
        replies[reply.request_id] = reply
    results = [(reply, reply.WhichOneof("result")) for reply in replies.values()]
    assert not any(result is None or getattr(reply, result).errors for reply, result in results)
    outputs = [
        from_tensor(replies[number].step.outputs["y"]) for number, kind in sent.items() if kind == "step"
    ]
    for lap in range(4):
        first, both, again = outputs[3 * lap : 3 * lap + 3]
        base = 2 * lap
        assert first.tobytes() == expected[base : base + 1].tobytes()
        assert both.tobytes() == expected[base + 1 : base + 3].tobytes()
        assert again.tobytes() == expected[base + 1 : base + 2].tobytes()
    assert await names(caller, handle) == ["p0", "p1", "p2", "p3"]


async def test_two_clients_that_make_one_name_at_once_get_one_checkpoint(address: str, x: Array) -> None:
    async with connect(address) as one, connect(address) as other:
        (session,) = await opened(one, "a")
        await one.step(session.handle, 0, x[0])
        both = await asyncio.gather(*(made(each, session.handle, "p") for each in (one, other)))
        assert both[0] == both[1]
        assert await names(other, session.handle) == ["p"]
