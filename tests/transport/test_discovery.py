"""Asks a server about itself: reflection, health, limits."""

import asyncio
import shutil
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.helpers.caller import connect

from statewise.service.base import Settings
from statewise.service.server import Server
from statewise.service.testing import running_server
from statewise.v1 import admin_pb2


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

        services = [f"statewise.v1.{name}Service" for name in ("Sequence", "Model", "Admin")]
        names = ("", "models/steps", "models/last", *services, "models/broken")
        assert [await status(name) for name in names] == ["SERVING"] * 6 + ["NOT_SERVING"]
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
