"""Takes the store away from a server that requires it: sessions are refused until the store is back."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.helpers.caller import connect, read_answer
from tests.helpers.errors import info_in
from tests.helpers.metrics_server import http_get, serve_with_metrics
from tests.service.stores.redis_server import RedisServer, redis_server

from statewise.client import AsyncClient
from statewise.service import Settings, SettingsError
from statewise.v1 import sequence_pb2
from statewise.wire import pack_uint64

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis server with an append-only file."""
    with redis_server() as server:
        yield server


def retry_s_of(status: status_pb2.Status) -> float:
    """After which time a status advises to try again."""
    hint = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(hint)
    return float(hint.retry_delay.ToTimedelta().total_seconds())


async def test_sessions_are_refused_while_the_store_is_away_and_predictions_are_not(
    repository: Path, redis: RedisServer, random: np.random.Generator
) -> None:
    x = random.standard_normal((6, 3)).astype(np.float32)
    request = health_pb2.HealthCheckRequest()
    async with (
        serve_with_metrics(repository, store=redis.url, store_required=True) as (address, metrics),
        connect(address) as caller,
        AsyncClient(address, reconnect_s=60.0) as client,
        grpc.aio.insecure_channel(address) as probing,
    ):
        whole = await client.predict("steps", x)
        watching = health_pb2_grpc.HealthStub(probing).Watch(request)
        assert (await read_answer(watching)).status == SERVING
        (handle,) = await caller.open("steps", "a")
        await caller.step(handle, 0, x[:2])
        session = await client.session("steps", id="b")
        np.testing.assert_array_equal(await session.step(x[:3]), whole[:3])

        redis.kill()
        assert (
            await read_answer(watching)
        ).status == NOT_SERVING  # without a request: the server looks itself
        handles = pack_uint64([handle])
        refused = [
            await caller.ask(step=caller.frame([(handle, 2)], x[2:3])),
            await caller.ask(generate=sequence_pb2.GenerateSessionsRequest(handles=handles)),
            await caller.ask(open=sequence_pb2.OpenSessionsRequest(model="steps", session_ids=["c"])),
            await caller.ask(fork=sequence_pb2.ForkSessionsRequest(handles=handles, session_ids=["d"])),
            await caller.ask(
                rewind=sequence_pb2.RewindSessionsRequest(handles=handles, positions=pack_uint64([0]))
            ),
        ]
        assert [info_in(status).reason for status in refused] == ["STORE_UNAVAILABLE"] * len(refused)
        assert [retry_s_of(status) for status in refused] == [1.0] * len(refused)
        assert await asyncio.to_thread(http_get, metrics, "/readyz") == (503, "the session store is away\n")
        np.testing.assert_array_equal(await client.predict("steps", x), whole)
        waiting = asyncio.create_task(session.step(x[3:]))

        redis.start()
        assert (await read_answer(watching)).status == SERVING
        np.testing.assert_array_equal(await waiting, whole[3:])
        np.testing.assert_array_equal(await caller.step(handle, 2, x[2:]), whole[2:])
        assert (await asyncio.to_thread(http_get, metrics, "/readyz"))[0] == 200


def test_a_required_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="store_required needs store"):
        Settings.load(repository=tmp_path, store_required=True)
    with pytest.raises(SettingsError, match="durability = reply needs store"):
        Settings.load(repository=tmp_path, durability="reply")
