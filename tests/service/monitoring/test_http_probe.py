"""Asks the HTTP side of a server whether it is ready and alive."""

import asyncio
import shutil
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.helpers.metrics_server import http_get, serve_with_metrics

from statewise.service import ServerError, Settings, SettingsError
from statewise.service.monitoring import HttpProbe
from statewise.service.server import Server
from statewise.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    sequence_pb2,
    sequence_pb2_grpc,
)
from statewise.wire import pack_uint32, to_tensor

Prediction = grpc.aio.UnaryStreamCall[sequence_pb2.PredictRequest, sequence_pb2.PredictResponse]


async def test_ready_while_a_model_is_served_and_alive_throughout(repository: Path, tmp_path: Path) -> None:
    slow: dict[str, Any] = {"piece_s": 1e-9, "inline_s": 0.0}
    server = Server(Settings(repository=tmp_path, listen="127.0.0.1:0", metrics_listen="127.0.0.1:0", **slow))
    async with grpc.aio.insecure_channel(await server.start()) as channel:
        stub = _health(channel)
        assert await asyncio.to_thread(http_get, server.metrics_address, "/readyz") == (
            503,
            "the server serves no model\n",
        )
        assert await asyncio.to_thread(http_get, server.metrics_address, "/healthz") == (200, "alive\n")
        assert await stub() == "NOT_SERVING"
        shutil.copytree(repository / "last", tmp_path / "last")
        models = model_pb2_grpc.ModelServiceStub(channel)
        await models.LoadModel(model_pb2.LoadModelRequest(name="last"))
        assert await asyncio.to_thread(http_get, server.metrics_address, "/readyz") == (200, "ready\n")
        assert await stub() == "SERVING"
        assert (await asyncio.to_thread(http_get, server.metrics_address, "/nothing"))[0] == 404
        prediction = await _begin_long_prediction(channel)
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)  # the stop begins
        assert await asyncio.to_thread(http_get, server.metrics_address, "/readyz") == (
            503,
            "the server is shutting down\n",
        )
        assert await asyncio.to_thread(http_get, server.metrics_address, "/healthz") == (200, "alive\n")
        prediction.cancel()
        await stopping


async def _begin_long_prediction(channel: grpc.aio.Channel) -> Prediction:
    """Calls Predict with work for longer than the test; returns when the server runs it."""
    x = np.zeros((100_000, 3), np.float32)
    request = sequence_pb2.PredictRequest(
        model="last", lengths=pack_uint32([len(x)]), inputs={"x": to_tensor(x)}
    )
    prediction = sequence_pb2_grpc.SequenceServiceStub(channel).Predict(request)
    watching = admin_pb2_grpc.AdminServiceStub(channel).WatchStats(admin_pb2.WatchStatsRequest())
    async for stats in watching:
        if any(model.queued_steps for model in stats.models):
            break
    watching.cancel()
    return prediction


def _health(channel: grpc.aio.Channel) -> Callable[[], Awaitable[str]]:
    async def status() -> str:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    return status


async def test_a_stuck_event_loop_is_seen_from_outside(repository: Path) -> None:
    async with serve_with_metrics(repository) as (_, metrics):
        # The request blocks the event loop of the server, which is the fault that the server has to see.
        assert http_get(metrics, "/healthz") == (503, "the event loop does not answer\n")
        assert http_get(metrics, "/metrics")[0] == 200
        assert (await asyncio.to_thread(http_get, metrics, "/healthz"))[0] == 200


@pytest.mark.parametrize("metrics", [True, False])
def test_who_says_nothing_keeps_no_other_away_for_long(metrics: bool) -> None:
    with probe_with(request_s=0.5, metrics=metrics) as address:
        host, _, port = address.rpartition(":")
        # The kernel connects at once. Without room for a connection it would try again after a second.
        silent = [socket.create_connection((host, int(port)), timeout=0.9) for _ in range(40)]
        try:
            # The server closes connections beyond its limit at once, and the others after a time.
            for one in silent:
                one.settimeout(30)
                assert one.recv(1) == b""
        finally:
            for one in silent:
                one.close()
        assert http_get(address, "/readyz") == (200, "ready\n")


async def test_who_sends_a_byte_now_and_then_keeps_nobody_away(repository: Path) -> None:
    async with serve_with_metrics(repository) as (_, metrics):
        host, _, port = metrics.rpartition(":")
        slow = [socket.create_connection((host, int(port))) for _ in range(16)]
        try:
            for _ in range(20):
                _send_to_all(slow, b"GET /healthz HTTP/1.1\r\nX-A: a")
                for path in ("/readyz", "/healthz", "/metrics"):
                    assert (await asyncio.to_thread(http_get, metrics, path))[0] == 200
        finally:
            for one in slow:
                one.close()


def _send_to_all(connections: Sequence[socket.socket], some: bytes) -> None:
    for one in connections:
        with suppress(OSError):  # the server has closed it
            one.sendall(some)


@contextmanager
def probe_with(*, request_s: float, metrics: bool = True) -> Iterator[str]:
    """The HTTP side of a server that is ready and alive, with an address of its own."""
    probe = HttpProbe(
        (lambda *_: []) if metrics else None,
        why_not_ready=lambda: "",
        is_alive=lambda: True,
        request_s=request_s,
    )
    try:
        yield probe.start("127.0.0.1", 0)
    finally:
        probe.stop()


def test_a_request_has_a_time_as_a_whole() -> None:
    with probe_with(request_s=0.3) as address:
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.settimeout(0.05)
            assert any(_is_closed(slow) for _ in range(2_000))


def _is_closed(slow: socket.socket) -> bool:
    """Sends one more byte; returns whether the server has closed the connection."""
    try:
        slow.sendall(b"G")
        return slow.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("what", ["metrics", "health"])
async def test_a_port_in_use_is_one_clear_error(repository: Path, what: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        taken_address: dict[str, Any] = {f"{what}_listen": f"127.0.0.1:{port}"}
        server = Server(Settings(repository=repository, **taken_address))
        with pytest.raises(
            ServerError, match=f"cannot listen on 127.0.0.1:{port} for {what}: Address already in use$"
        ):
            await server.start()
        await server.stop()


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "[::]:9464", "metrics.example:9464"])
def test_other_machines_see_metrics_only_where_that_is_wanted(repository: Path, address: str) -> None:
    with pytest.raises(SettingsError, match=r"metrics_listen = .*metrics_insecure = true"):
        Settings.load(repository=repository, metrics_listen=address)
    Settings.load(repository=repository, metrics_listen=address, metrics_insecure=True)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:9464", "[::1]:9464", "127.8.0.1:1"])
def test_this_machine_sees_metrics_wherever_it_likes(repository: Path, address: str) -> None:
    assert Settings.load(repository=repository, metrics_listen=address).metrics_listen == address
