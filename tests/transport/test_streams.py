"""Opens session streams: their number, requests that are refused on them, and how they end."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.helpers.caller import Caller, connect
from tests.helpers.errors import info_in

from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2
from statewise.wire import from_tensor, pack_uint32, pack_uint64, to_tensor


async def test_streams_are_bounded(repository: Path) -> None:
    async with (
        running_server(repository, streams=2) as address,
        connect(address) as one,
        connect(address) as two,
        connect(address) as three,
    ):
        await one.open("steps", "a")
        await two.open("steps", "b")
        with pytest.raises(grpc.aio.AioRpcError, match="2 streams are open") as refused:
            await three.open("steps", "c")
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await two.stream.done_writing()
        assert await two.stream.read() is grpc.aio.EOF
        async with connect(address) as four:
            await four.open("steps", "c")


async def test_a_stream_whose_caller_has_said_everything_still_gets_its_answers(
    caller: Caller, random: np.random.Generator
) -> None:
    x = random.standard_normal((50_000, 3)).astype(np.float32)
    (handle,) = await caller.open("steps", "a")
    await caller.send(step=caller.frame([(handle, 0)], x, steps=[len(x)]))
    await caller.stream.done_writing()
    assert from_tensor((await caller.receive()).step.outputs["y"]).shape == (50_000, 2)
    with pytest.raises(AssertionError, match="the stream has ended"):
        await caller.receive()


def _frame(**changes: Any) -> sequence_pb2.StepRequest:
    request = sequence_pb2.StepRequest(
        handles=b"", positions=pack_uint64([0]), inputs={"x": to_tensor(np.zeros((1, 3), np.float32))}
    )
    for name, value in changes.items():
        if name == "inputs":
            request.ClearField("inputs")
            for key, array in value.items():
                request.inputs[key].CopyFrom(to_tensor(array))
        else:
            setattr(request, name, value)
    return request


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"inputs": {"x": np.zeros((1, 4), np.float32)}}, "BAD_TENSOR", ["[1, 3]", "[1, 4]"]),
        ({"inputs": {"x": np.zeros(3, np.float32)}}, "BAD_TENSOR", ["[1, 3]", "got [3]"]),
        ({"inputs": {"x": np.zeros((1, 1, 3), np.float32)}}, "BAD_TENSOR", ["[1, 3]", "[1, 1, 3]"]),
        ({"inputs": {"x": np.zeros((2, 3), np.float32)}}, "BAD_TENSOR", ["[1, 3]", "[2, 3]"]),
        ({"inputs": {"x": np.zeros((1, 3), np.float64)}}, "BAD_TENSOR", ["float32", "float64"]),
        ({"inputs": {}}, "BAD_TENSOR", ["'x' is missing"]),
        ({"inputs": {"z": np.zeros((1, 3), np.float32)}}, "BAD_TENSOR", ["no input 'z'", "'x'"]),
        ({"steps": pack_uint32([0])}, "BAD_TENSOR", ["0 time steps"]),
        ({"steps": b"123"}, "BAD_REQUEST", ["steps", "3 bytes"]),
        ({"positions": pack_uint64([0, 0])}, "BAD_REQUEST", ["equal length"]),
        ({"steps": pack_uint32([1, 1])}, "BAD_REQUEST", ["equal length"]),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_malformed_frame_fails_as_a_whole_and_the_stream_goes_on(
    caller: Caller, changes: dict[str, Any], reason: str, words: list[str]
) -> None:
    (handle,) = await caller.open("steps", "a")
    request = _frame(**{"handles": pack_uint64([handle]), **changes})
    status = await caller.ask(step=request)
    info = info_in(status)
    assert (info.reason, info.domain, status.code) == (reason, "statewise", 3)
    for word in words:
        assert word in status.message
    await caller.step(handle, 0, np.zeros(3, np.float32))


async def test_a_request_without_operation_or_number_is_refused(caller: Caller) -> None:
    await caller.stream.write(sequence_pb2.SessionStreamRequest(request_id=5))
    assert "names no operation" in (await caller.receive()).error.message
    await caller.stream.write(sequence_pb2.SessionStreamRequest(close=sequence_pb2.CloseSessionsRequest()))
    assert "request_id" in (await caller.receive()).error.message
