"""Watches the statistics of a real server that does real work."""

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.helpers.caller import Caller, connect, read_answer

from statewise.service.base import Settings
from statewise.service.server import Server
from statewise.v1 import admin_pb2

X = np.zeros((1, 3), np.float32)


def watch_request(interval_s: float) -> admin_pb2.WatchStatsRequest:
    request = admin_pb2.WatchStatsRequest()
    request.interval.FromNanoseconds(int(interval_s * 1e9))
    return request


def of_version(report: admin_pb2.WatchStatsResponse, version: int = 2) -> admin_pb2.ModelStats:
    """The part of a report about one version of `steps`."""
    (found,) = (one for one in report.models if (one.model, one.version) == ("steps", version))
    return found


async def test_reports_count_on_and_percentiles_are_of_what_came_since(caller: Caller) -> None:
    (handle,) = await caller.open("steps", "a")
    await caller.step(handle, 0, X)
    watching = caller.admin.WatchStats(watch_request(0.1))
    first = await read_answer(watching)
    assert [(one.model, one.version) for one in first.models] == [
        ("both", 1),
        ("last", 1),
        ("steps", 1),
        ("steps", 2),
    ]
    assert first.streams == 1
    assert first.resident_bytes > 1_000_000
    assert first.cpu_seconds > 0
    one = of_version(first)
    assert (one.sessions, one.state_bytes, one.queued_steps) == (1, 128, 0)
    assert (one.requests, one.steps, one.batches, one.batch_rows, one.errors) == (1, 1, 1, 1, 0)
    assert 0 < one.latency_p50.ToNanoseconds() <= one.latency_p99.ToNanoseconds()
    assert not of_version(first, 1).HasField("latency_p50")

    second = await read_answer(watching)
    assert second.at.ToNanoseconds() > first.at.ToNanoseconds()
    assert of_version(second).steps == 1
    assert not of_version(second).HasField("latency_p99")

    reply = await caller.ask(step=caller.frame([(handle, 1)], np.zeros((4, 3), np.float32), steps=[4]))
    assert not reply.errors
    reply = await caller.ask(step=caller.frame([(handle, 9)], X))
    assert reply.errors
    while of_version(report := await read_answer(watching)).requests < 3:
        pass
    assert (of_version(report).steps, of_version(report).errors) == (5, 1)
    watching.cancel()


@pytest.mark.parametrize("interval_s", [0.0, 0.09, 3601.0, -1.0])
async def test_intervals_out_of_range_are_refused(caller: Caller, interval_s: float) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=r"expected an interval of 0\.1 to 3600 s") as refused:
        await caller.admin.WatchStats(watch_request(interval_s)).read()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_who_watches_does_not_hold_up_the_end(repository: Path) -> None:
    server = Server(Settings(repository=repository, listen="127.0.0.1:0", grace_s=60.0))
    async with connect(await server.start()) as caller:
        watching = caller.admin.WatchStats(watch_request(3600.0))
        assert (await read_answer(watching)).models
        stopping = asyncio.create_task(server.stop())
        with pytest.raises(grpc.aio.AioRpcError, match="shutting down"):
            await watching.read()
        caller.stream.cancel()
        await stopping
