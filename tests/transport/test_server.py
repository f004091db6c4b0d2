"""The server's life: listening, telling of itself, and going away without losing what is under way."""

import asyncio
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.helpers.caller import Caller, connect
from tests.helpers.models.small import SmallModels

from statewise.service import ServerError
from statewise.service.base import Settings
from statewise.service.server import Server
from statewise.service.testing import running_server, server_in_thread
from statewise.v1 import admin_pb2, sequence_pb2
from statewise.wire import from_tensor, pack_uint32, to_tensor

SERVE = """
import sys
from pathlib import Path
from statewise.service import Settings, serve
settings = Settings(repository=Path(sys.argv[1]), listen="127.0.0.1:0", grace_s=float(sys.argv[2]))
serve(settings, ready=sys.stdout)
"""


@asynccontextmanager
async def _serving(
    repository: Path, *, grace_s: float = 10.0
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The server in a process of its own, which does not outlive the test."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, str(repository), str(grace_s), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith("listening on 127.0.0.1:")
    try:
        yield process, line.split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_sigterm_ends_idle_streams_and_the_process_with_0(repository: Path) -> None:
    async with _serving(repository) as (process, address), connect(address) as caller:
        await caller.open("steps", "a")
        process.send_signal(signal.SIGTERM)
        news = await caller.receive()
        assert news.WhichOneof("result") == "draining"
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await caller.stream.read()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await process.wait() == 0


async def test_what_is_under_way_is_answered_and_what_is_new_refused(
    repository: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((300_000, 3)).astype(np.float32)
    async with _serving(repository) as (process, address), connect(address) as caller:
        (handle,) = await caller.open("steps", "a")
        number = await caller.send(step=caller.frame([(handle, 0)], x, steps=[len(x)]))
        # A reply to a later request says that the long one has been taken.
        await caller.send(resume=sequence_pb2.ResumeSessionsRequest(session_ids=["nobody"]))
        assert (await caller.receive()).resume.errors[0].reason == "SESSION_NOT_FOUND"
        process.send_signal(signal.SIGTERM)
        assert (await caller.receive()).WhichOneof("result") == "draining"
        refused = await caller.ask(open=sequence_pb2.OpenSessionsRequest(model="steps", session_ids=["b"]))
        assert (refused.code, "shutting down" in refused.message) == (14, True)
        reply = await caller.receive()
        assert await process.wait() == 0
    assert reply.request_id == number
    y = from_tensor(reply.step.outputs["y"])
    assert y.tobytes() == small_models.find("steps").run(x)[0].tobytes()


async def test_sigterm_says_not_serving_and_finishes_predictions(
    repository: Path, random: np.random.Generator
) -> None:
    x = random.standard_normal((300_000, 3)).astype(np.float32)
    request = sequence_pb2.PredictRequest(
        model="steps", lengths=pack_uint32([len(x)]), inputs={"x": to_tensor(x)}
    )
    async with (
        _serving(repository, grace_s=60.0) as (process, address),
        connect(address) as caller,
        grpc.aio.insecure_channel(address) as probing,
    ):
        watching = health_pb2_grpc.HealthStub(probing).Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        call = caller.sequences.Predict(request)
        async for stats in caller.admin.WatchStats(admin_pb2.WatchStatsRequest()):
            if any(model.steps or model.queued_steps for model in stats.models):
                break
        process.send_signal(signal.SIGTERM)
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await watching.read() is grpc.aio.EOF
        part = await call.read()
        assert from_tensor(part.outputs["y"]).shape == (len(x), 2)
        assert await call.read() is grpc.aio.EOF
        assert await process.wait() == 0


async def test_sigterm_does_not_wait_for_who_never_reads(
    repository: Path, random: np.random.Generator
) -> None:
    x = random.standard_normal((300_000, 3)).astype(np.float32)
    narrow = {"http2.lookahead_bytes": 1024, "http2.bdp_probe": 0}
    async with _serving(repository, grace_s=1.0) as (process, address), connect(address, **narrow) as stuck:
        (handle,) = await stuck.open("steps", "a")
        await stuck.send(step=stuck.frame([(handle, 0)], x, steps=[len(x)]))
        process.send_signal(signal.SIGTERM)
        # Within the grace period, and some time for a busy machine.
        assert await asyncio.wait_for(process.wait(), 60.0) == 0


async def test_reflection_tells_the_contract_where_that_is_wanted(repository: Path) -> None:
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    for wanted in (True, False):
        async with (
            running_server(repository, reflection=wanted) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            call = stub.ServerReflectionInfo(iter([ask]))
            if not wanted:
                assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
                continue
            (answer,) = [response async for response in call]
            names = {service.name for service in answer.list_services_response.service}
            assert names >= {"statewise.v1.SequenceService", "grpc.health.v1.Health"}


async def test_health_of_the_server_and_of_each_model(repository: Path, tmp_path: Path) -> None:
    for name in ("steps", "last"):
        shutil.copytree(repository / name, tmp_path / name)
    (tmp_path / "broken" / "1").mkdir(parents=True)
    server = Server(Settings(repository=tmp_path, listen="127.0.0.1:0", grace_s=5.0))
    async with grpc.aio.insecure_channel(await server.start()) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        async def status(service: str) -> str:
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

        names = ("", "models/steps", "models/last", "models/broken")
        assert [await status(name) for name in names] == ["SERVING"] * 3 + ["NOT_SERVING"]
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await status("models/nobody")
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        watching = [
            health.Watch(health_pb2.HealthCheckRequest(service=name))
            for name in ("models/steps", "models/steps", "models/nobody")
        ]
        first = [(await watcher.read()).status for watcher in watching]
        known, unknown = (
            health_pb2.HealthCheckResponse.SERVING,
            health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
        )
        assert first == [known, known, unknown]
        watching[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching[0].read()
        # Of those that stay, each hears of the change, and none holds up the shutdown.
        stopping = asyncio.create_task(server.stop())
        assert (await watching[1].read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert [await watcher.read() for watcher in watching[1:]] == [grpc.aio.EOF] * 2
        await stopping


async def test_a_port_in_use_is_one_clear_error(repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = Server(Settings(repository=repository, listen=f"127.0.0.1:{port}"))
        with pytest.raises(ServerError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use$"):
            await server.start()
        await server.stop()


async def test_a_provider_that_is_not_there_is_one_clear_error(repository: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    server = Server(Settings(repository=repository, listen="127.0.0.1:0", execution_provider="cuda"))
    with pytest.raises(ServerError, match="needs onnxruntime-gpu"):
        await server.start()
    await server.stop()


async def test_the_server_tells_its_limits(repository: Path) -> None:
    async with (
        running_server(repository, sessions=7, message_bytes=100_000) as address,
        connect(address) as caller,
    ):
        told = await caller.admin.GetServer(admin_pb2.GetServerRequest())
    assert (told.limits.sessions, told.limits.message_bytes) == (7, 100_000)
    assert told.limits.idle_timeout.seconds == 3600
    assert told.store == "none"
    assert not told.draining


def test_a_server_in_a_thread_listens_and_ends(repository: Path) -> None:
    with server_in_thread(repository) as address:
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port))).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


async def test_sessions_are_listed_page_by_page_and_closed_by_id(caller: Caller) -> None:
    await caller.open("steps", "a", "b", "c")
    await caller.open("last", "d")
    seen, token = [], ""
    while True:
        request = admin_pb2.ListSessionsRequest(page_size=2, page_token=token)
        page = await caller.admin.ListSessions(request)
        seen += [session.session_id for session in page.sessions]
        token = page.next_page_token
        if not token:
            break
    assert sorted(seen) == ["a", "b", "c", "d"]
    only = await caller.admin.ListSessions(admin_pb2.ListSessionsRequest(model="last"))
    assert [session.session_id for session in only.sessions] == ["d"]
    await caller.admin.CloseSession(admin_pb2.CloseSessionRequest(session_id="d"))
    with pytest.raises(grpc.aio.AioRpcError, match="no session 'd' is open"):
        await caller.admin.GetSession(admin_pb2.GetSessionRequest(session_id="d"))
    with pytest.raises(grpc.aio.AioRpcError, match="page_token"):
        await caller.admin.ListSessions(admin_pb2.ListSessionsRequest(page_token="?"))


async def test_limits_of_sessions_and_bytes(repository: Path) -> None:
    # A session of `steps` keeps 16 float32 numbers twice: 128 bytes.
    async with running_server(repository, sessions=3) as address, connect(address) as caller:
        request = sequence_pb2.OpenSessionsRequest(model="steps", session_ids=list("abcde"))
        opened = await caller.ask(open=request)
        assert [session.session_id for session in opened.sessions] == ["a", "b", "c"]
        assert {(error.row, error.reason, error.code) for error in opened.errors} == {
            (3, "SESSION_LIMIT", 8),
            (4, "SESSION_LIMIT", 8),
        }
    async with running_server(repository, state_bytes=300) as address, connect(address) as caller:
        opened = await caller.ask(open=request)
        assert [error.reason for error in opened.errors] == ["BYTES_LIMIT"] * 3
