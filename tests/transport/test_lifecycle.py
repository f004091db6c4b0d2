"""Starts and stops servers: what cannot start says why, and what is under way ends in order."""

import asyncio
import signal
import socket
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.helpers.caller import connect
from tests.helpers.models.small import SmallModels
from tests.helpers.narrow_relay import narrow_relay
from tests.helpers.server_process import ServerProcesses

from statewise.service import ServerError
from statewise.service.base import Settings
from statewise.service.server import Server
from statewise.service.testing import server_in_thread
from statewise.v1 import admin_pb2, sequence_pb2
from statewise.wire import from_tensor, pack_uint32, to_tensor


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_idle_streams_and_the_process_with_0(
    processes: ServerProcesses, number: signal.Signals
) -> None:
    server = processes.start(grace_s=60.0)
    async with connect(server.address) as caller:
        await caller.open("steps", "a")
        server.child.send_signal(number)
        news = await caller.receive()
        assert news.WhichOneof("result") == "draining"
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await caller.stream.read()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await asyncio.to_thread(server.child.wait) == 0


async def test_what_is_under_way_is_answered_and_what_is_new_refused(
    processes: ServerProcesses, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((300_000, 3)).astype(np.float32)
    server = processes.start(grace_s=60.0)
    async with connect(server.address) as caller:
        (handle,) = await caller.open("steps", "a")
        number = await caller.send(step=caller.frame([(handle, 0)], x, steps=[len(x)]))
        # A reply to a later request says that the long one has been taken.
        await caller.send(resume=sequence_pb2.ResumeSessionsRequest(session_ids=["nobody"]))
        assert (await caller.receive()).resume.errors[0].reason == "SESSION_NOT_FOUND"
        server.child.send_signal(signal.SIGTERM)
        assert (await caller.receive()).WhichOneof("result") == "draining"
        refused = await caller.ask(open=sequence_pb2.OpenSessionsRequest(model="steps", session_ids=["b"]))
        assert (refused.code, "shutting down" in refused.message) == (14, True)
        reply = await caller.receive()
        assert await asyncio.to_thread(server.child.wait) == 0
    assert reply.request_id == number
    y = from_tensor(reply.step.outputs["y"])
    assert y.tobytes() == small_models.find("steps").run(x)[0].tobytes()


async def test_the_connection_stays_open_until_a_slow_client_has_read_its_last_answer(
    processes: ServerProcesses, random: np.random.Generator
) -> None:
    x = random.standard_normal((300_000, 3)).astype(np.float32)
    server = processes.start(grace_s=60.0)
    async with narrow_relay(server.address) as address, connect(address) as caller:
        (handle,) = await caller.open("steps", "a")
        await caller.send(step=caller.frame([(handle, 0)], x, steps=[len(x)]))
        # A reply to a later request says that the long one has been taken.
        await caller.send(resume=sequence_pb2.ResumeSessionsRequest(session_ids=["nobody"]))
        assert (await caller.receive()).resume.errors[0].reason == "SESSION_NOT_FOUND"
        server.child.send_signal(signal.SIGTERM)
        assert (await caller.receive()).WhichOneof("result") == "draining"
        assert from_tensor((await caller.receive()).step.outputs["y"]).shape == (len(x), 2)
        with pytest.raises(grpc.aio.AioRpcError, match="shutting down"):
            await caller.stream.read()
        assert await asyncio.to_thread(server.child.wait) == 0


async def test_a_stream_opened_while_the_server_drains_gets_refusals_and_ends(
    repository: Path,
) -> None:
    server = Server(Settings(repository=repository, listen="127.0.0.1:0", grace_s=60.0, reflection=True))
    async with connect(await server.start()) as caller:
        held_open = reflection_pb2_grpc.ServerReflectionStub(caller.channel).ServerReflectionInfo()
        await held_open.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        await held_open.read()
        watching = health_pb2_grpc.HealthStub(caller.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.create_task(server.stop())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        refused = await caller.ask(open=sequence_pb2.OpenSessionsRequest(model="steps", session_ids=["a"]))
        assert (refused.code, "shutting down" in refused.message) == (14, True)
        assert not stopping.done()
        held_open.cancel()
        assert (await caller.receive()).WhichOneof("result") == "draining"
        with pytest.raises(grpc.aio.AioRpcError, match="shutting down"):
            await caller.stream.read()
        await stopping


async def test_a_stream_that_begins_after_all_others_have_ended_is_told_at_once(repository: Path) -> None:
    """gRPC may have taken its call before it stopped listening; the server would wait for it."""
    server = Server(Settings(repository=repository, listen="127.0.0.1:0", grace_s=60.0))
    async with connect(await server.start()) as caller:
        server._grpc._sequences.drain(60.0, last=True)
        await caller.send(open=sequence_pb2.OpenSessionsRequest(model="steps", session_ids=["a"]))
        assert (await caller.receive()).WhichOneof("result") == "draining"
        with pytest.raises(grpc.aio.AioRpcError, match="shutting down"):
            await caller.stream.read()
        await server.stop()


async def test_sigterm_says_not_serving_and_finishes_predictions(
    processes: ServerProcesses, random: np.random.Generator
) -> None:
    x = random.standard_normal((300_000, 3)).astype(np.float32)
    request = sequence_pb2.PredictRequest(
        model="steps", lengths=pack_uint32([len(x)]), inputs={"x": to_tensor(x)}
    )
    server = processes.start(grace_s=60.0)
    async with (
        connect(server.address) as caller,
        grpc.aio.insecure_channel(server.address) as probing,
    ):
        watching = health_pb2_grpc.HealthStub(probing).Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        call = caller.sequences.Predict(request)
        async for stats in caller.admin.WatchStats(admin_pb2.WatchStatsRequest()):
            if any(model.steps or model.queued_steps for model in stats.models):
                break
        server.child.send_signal(signal.SIGTERM)
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await watching.read() is grpc.aio.EOF
        part = await call.read()
        assert isinstance(part, sequence_pb2.PredictResponse)
        assert from_tensor(part.outputs["y"]).shape == (len(x), 2)
        assert await call.read() is grpc.aio.EOF
        assert await asyncio.to_thread(server.child.wait) == 0


async def test_sigterm_does_not_wait_for_who_never_reads(
    processes: ServerProcesses, random: np.random.Generator
) -> None:
    x = random.standard_normal((300_000, 3)).astype(np.float32)
    narrow: dict[str, Any] = {"http2.lookahead_bytes": 1024, "http2.bdp_probe": 0}
    server = processes.start(grace_s=1.0)
    async with connect(server.address, **narrow) as stuck:
        (handle,) = await stuck.open("steps", "a")
        await stuck.send(step=stuck.frame([(handle, 0)], x, steps=[len(x)]))
        server.child.send_signal(signal.SIGTERM)
        # Within the grace period, and some time for a busy machine.
        assert await asyncio.to_thread(server.child.wait, 60.0) == 0


async def test_a_port_in_use_is_one_clear_error(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = Server(Settings(repository=repository, listen=f"127.0.0.1:{port}"))
        with pytest.raises(ServerError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use$"):
            await server.start()
        await server.stop()
    assert "bind" not in capfd.readouterr().err  # gRPC's own words


async def test_a_provider_that_is_not_there_is_one_clear_error(repository: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    server = Server(Settings(repository=repository, listen="127.0.0.1:0", execution_provider="cuda"))
    with pytest.raises(ServerError, match="needs onnxruntime-gpu"):
        await server.start()
    await server.stop()


def test_a_server_in_a_thread_listens_and_ends(repository: Path) -> None:
    with server_in_thread(repository) as address:
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port))).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
