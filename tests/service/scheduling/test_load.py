"""Sends more work than the server can do, and gives work up: it is refused or dropped, and changes nothing.

Where a test needs work under way, slices of a single step make the work last longer than the test.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.helpers.arrays import Array
from tests.helpers.caller import Caller, connect, read_answer
from tests.helpers.errors import info_in
from tests.helpers.models.small import SmallModels

from statewise.service import Settings
from statewise.service.assembly import build_dataplane
from statewise.service.testing import running_server
from statewise.v1 import admin_pb2, sequence_pb2
from statewise.wire import from_tensor, pack_uint32, to_tensor

LONG = 100_000
SLOW: dict[str, Any] = {"piece_s": 1e-9, "inline_s": 0.0}
"""A piece a step, each in a thread."""


def _predict(x: Array) -> sequence_pb2.PredictRequest:
    return sequence_pb2.PredictRequest(
        model="steps", lengths=pack_uint32([len(x)]), inputs={"x": to_tensor(x)}
    )


def _refusal(error: grpc.aio.AioRpcError) -> bytes:
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return bytes(dict(error.trailing_metadata() or ())["grpc-status-details-bin"])


async def _send_long(caller: Caller, handle: int) -> int:
    """Sends a chunk that takes longer than the test; its session is open."""
    x = np.ones((LONG, 3), np.float32)
    return int(await caller.send(step=caller.frame([(handle, 0)], x, steps=[LONG])))


async def _cancel(caller: Caller, number: int) -> None:
    """Cancels a request, and waits until the server has ended it."""
    await caller.send(cancel=sequence_pb2.CancelRequest(target_request_id=number))
    replies = [await caller.receive() for _ in range(2)]
    (ended,) = [reply for reply in replies if reply.request_id == number]
    assert ended.error.code == grpc.StatusCode.CANCELLED.value[0]


async def test_work_that_would_wait_too_long_is_refused_and_single_steps_are_not(
    repository: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((5, 3)).astype(np.float32)
    async with running_server(repository, queue_s=1e-6, **SLOW) as address, connect(address) as caller:
        long, short = await caller.open("steps", "long", "short")
        number = await _send_long(caller, long)
        reply = await caller.ask(step=caller.frame([(short, 0)], x[:1]))
        assert from_tensor(reply.outputs["y"]).tobytes() == small_models.find("steps").run(x[:1])[0].tobytes()
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await caller.sequences.Predict(_predict(x)).read()
        details = _refusal(failure.value)
        assert b"QUEUE_FULL" in details
        assert b"RetryInfo" in details
        await _cancel(caller, number)
        answer = await read_answer(caller.sequences.Predict(_predict(x)))
        assert from_tensor(answer.outputs["y"]).tobytes() == small_models.find("steps").run(x)[0].tobytes()


async def test_a_chunk_cancelled_between_its_pieces_changes_nothing(
    repository: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((4, 3)).astype(np.float32)
    async with running_server(repository, **SLOW) as address, connect(address) as caller:
        (handle,) = await caller.open("steps", "a")
        await caller.step(handle, 0, x[:2])
        number = int(
            await caller.send(step=caller.frame([(handle, 2)], np.ones((LONG, 3), np.float32), steps=[LONG]))
        )
        await _pieces_have_run(caller, 10)
        await _cancel(caller, number)
        y = await caller.step(handle, 2, x[2:])
    assert y.tobytes() == small_models.find("steps").run(x)[0][2:].tobytes()


async def _pieces_have_run(caller: Caller, count: int) -> None:
    """Waits until the server has made so many more runs."""
    before = None
    async for stats in caller.admin.WatchStats(_every(0.1)):
        runs = sum(model.batches for model in stats.models)
        before = runs if before is None else before
        if runs >= before + count:
            return


def _every(seconds: float) -> admin_pb2.WatchStatsRequest:
    request = admin_pb2.WatchStatsRequest()
    request.interval.FromNanoseconds(int(seconds * 1e9))
    return request


async def test_a_unary_step_whose_caller_left_is_not_applied(
    repository: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((1, 3)).astype(np.float32)
    async with running_server(repository, **SLOW) as address, connect(address) as caller:
        (handle,) = await caller.open("steps", "a")
        number = await _send_long(caller, handle)
        await _pieces_have_run(caller, 1)
        behind = caller.sequences.Step(caller.frame([(handle, LONG)], x))
        await asyncio.wait([asyncio.ensure_future(_pieces_have_run(caller, 1))])
        behind.cancel()
        with pytest.raises(asyncio.CancelledError):
            await behind
        await _cancel(caller, number)
        assert (await caller.step(handle, 0, x[0])).tobytes() == small_models.find("steps").run(x)[
            0
        ].tobytes()


async def test_a_step_whose_time_passes_while_it_waits_is_not_applied(
    repository: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((1, 3)).astype(np.float32)
    async with running_server(repository, **SLOW) as address, connect(address) as caller:
        (handle,) = await caller.open("steps", "a")
        number = await _send_long(caller, handle)
        late = await caller.send(step=caller.frame([(handle, 0)], x, timeout_s=0.001))
        await _pieces_have_run(caller, 1)
        await caller.send(cancel=sequence_pb2.CancelRequest(target_request_id=number))
        replies = {reply.request_id: reply for reply in [await caller.receive() for _ in range(3)]}
        assert info_in(replies[late].error).reason == "DEADLINE"
        assert (await caller.step(handle, 0, x[0])).tobytes() == small_models.find("steps").run(x)[
            0
        ].tobytes()


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - the dataplane has no event for this
        await asyncio.sleep(0)


@pytest.mark.parametrize("given_up", ["left", "deadline"])
async def test_a_prediction_that_nobody_waits_for_stops_at_its_next_piece(
    repository: Path, given_up: str
) -> None:
    now_s = 1000.0
    limits = Settings(repository=repository, load_in_child=False, **SLOW)
    with ThreadPoolExecutor(1) as executor:
        dataplane = build_dataplane(limits, executor=executor, clock=lambda: now_s)
        await dataplane.models.load_all()
        model = dataplane.models.find("steps", 0)
        runs = model.scheduler.statistics.long.run_s
        lengths = np.array([1, LONG], np.uint32)
        inputs = {"x": np.ones((LONG + 1, 3), np.float32)}
        parts = dataplane.predict(model, lengths, inputs, owner="", deadline_s=now_s + 1)
        async with aclosing(parts):
            first = await anext(parts)
            assert first.rows.tolist() == [0]
            if given_up == "deadline":
                now_s += 2
                (failure,) = (await anext(parts)).failures
                assert (failure.row, failure.reason.value) == (1, "DEADLINE")
        await _until(lambda: model.scheduler.queued_steps == 0)
        assert runs.count < LONG / 100
        after = [
            part
            async for part in dataplane.predict(
                model, lengths[:1], {"x": inputs["x"][:1]}, owner="", deadline_s=None
            )
        ]
        assert [part.rows.tolist() for part in after] == [[0]]


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"request_rows": 3}, "at most 3 rows a request; got 4"),
        ({"request_steps": 7}, "7 time steps a request; got 8"),
    ],
)
async def test_requests_have_a_size(repository: Path, limit: dict[str, Any], words: str) -> None:
    x = np.zeros((8, 3), np.float32)
    async with running_server(repository, **limit) as address, connect(address) as caller:
        request = sequence_pb2.PredictRequest(
            model="steps", lengths=pack_uint32([2] * 4), inputs={"x": to_tensor(x)}
        )
        with pytest.raises(grpc.aio.AioRpcError, match=words) as failure:
            await caller.sequences.Predict(request).read()
        assert b"BYTES_LIMIT" in _refusal(failure.value)
        handles = await caller.open("steps", "a", "b", "c") + await caller.open("steps", "d")
        reply = await caller.ask(step=caller.frame([(handle, 0) for handle in handles], x, steps=[2] * 4))
        assert words in reply.message
        await caller.step(handles[0], 0, x[:2])
