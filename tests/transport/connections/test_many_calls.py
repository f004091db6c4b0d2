"""Makes many calls at once: all are answered, and those beyond the limit are refused with a time to retry."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.helpers.caller import Caller, connect

from statewise.service.testing import running_server
from statewise.v1 import admin_pb2, model_pb2


async def is_answered(caller: Caller) -> bool:
    """Makes a call, which may be refused."""
    try:
        await caller.admin.GetServer(admin_pb2.GetServerRequest())
    except grpc.aio.AioRpcError:
        return False
    return True


async def is_taken(watch: grpc.aio.UnaryStreamCall[Any, Any]) -> bool:
    """Reads the first status of a watch, which may be refused."""
    try:
        return await watch.read() is not grpc.aio.EOF
    except grpc.aio.AioRpcError:
        return False


async def test_a_burst_of_calls_is_answered_to_the_last(caller: Caller) -> None:
    """More than gRPC lets wait without refusing some at random."""
    request = model_pb2.GetModelRequest(name="steps")
    answers = await asyncio.gather(*(caller.models.GetModel(request) for _ in range(4_000)))
    assert {answer.model.name for answer in answers} == {"steps"}


async def test_calls_beyond_the_limit_are_refused_with_a_time_to_retry(repository: Path) -> None:
    async with (
        running_server(repository, calls=2) as address,
        connect(address) as one,
        connect(address) as two,
        connect(address) as three,
    ):
        await one.open("steps", "a")
        await two.open("steps", "b")
        with pytest.raises(grpc.aio.AioRpcError, match="2 calls are open") as refused:
            await three.admin.GetServer(admin_pb2.GetServerRequest())
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        details = bytes(dict(refused.value.trailing_metadata() or ())["grpc-status-details-bin"])
        assert b"QUEUE_FULL" in details
        assert b"RetryInfo" in details
        two.stream.cancel()
        while not await is_answered(three):
            pass


async def test_watches_of_health_count_and_checks_are_answered_at_the_limit(repository: Path) -> None:
    """Health needs no credentials, so its watches would be held without a limit."""
    ask = health_pb2.HealthCheckRequest()
    async with running_server(repository, calls=2) as address, grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watches = [health.Watch(ask) for _ in range(2)]
        for watch in watches:
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert await health.Watch(ask).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await health.Check(ask)).status == health_pb2.HealthCheckResponse.SERVING
        watches[0].cancel()
        while not await is_taken(health.Watch(ask)):
            pass
