"""Starts servers with the settings of rendered pods, on the loopback, and asks what Kubernetes would ask."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.helpers.metrics_server import http_get
from tests.service.stores.redis_server import redis_server

from statewise.service.server import Server

from .conftest import RENDERINGS
from .manifests import Manifests, Object
from .served_settings import settings_of

Rendered = Callable[[str], Manifests]
PASSWORD = "a password"  # as in the Secret's file


@asynccontextmanager
async def serving(manifests: Manifests, files: Path) -> AsyncIterator[Server]:
    """A server as the pod says, apart from its ports and the address of Redis."""
    loopback: dict[str, Any] = {"listen": "127.0.0.1:0", "health_listen": "127.0.0.1:0"}
    if "metrics" in manifests.ports:
        loopback["metrics_listen"] = "127.0.0.1:0"
    with ExitStack() as running:
        if "STATEWISE_STORE_PASSWORD_FILE" in manifests.environment:
            loopback["store"] = running.enter_context(redis_server("--requirepass", PASSWORD)).url
        server = Server(settings_of(manifests, files, load_in_child=False, **loopback))
        try:
            await server.start()
            yield server
        finally:
            await server.stop()


async def answers(server: Server, probe: Object) -> bool:
    """Whether the server answers a probe as the kubelet expects."""
    if "grpc" in probe:
        async with grpc.aio.insecure_channel(server.address) as channel:
            request = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
            reply = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
    assert probe["httpGet"]["port"] == "health"
    status, _ = await asyncio.to_thread(http_get, server.health_address, probe["httpGet"]["path"])
    return status == 200


@pytest.fixture
def folders(files: Path) -> Path:
    """The root of a container, with an empty repository and an empty volume."""
    (files / "repository").mkdir()
    (files / "var/lib/statewise").mkdir(parents=True)
    return files


@pytest.mark.parametrize("name", RENDERINGS)
async def test_a_server_as_the_pod_says_answers_its_probes(
    rendered: Rendered, folders: Path, repository: Path, name: str
) -> None:
    shutil.copytree(repository / "last", folders / "repository/last")
    manifests = rendered(name)
    async with serving(manifests, folders) as server:
        for probe_name, probe in manifests.probes():
            assert await answers(server, probe), probe_name


@pytest.mark.parametrize("name", ["sqlite", "sqlite with tls and metrics"])
async def test_a_pod_without_models_is_alive_and_not_ready(
    rendered: Rendered, folders: Path, name: str
) -> None:
    manifests = rendered(name)
    async with serving(manifests, folders) as server:
        told = {probe_name: await answers(server, probe) for probe_name, probe in manifests.probes()}
    assert told == {"startupProbe": False, "readinessProbe": False, "livenessProbe": True}


async def test_prometheus_finds_what_the_autoscaler_needs(
    rendered: Rendered, folders: Path, repository: Path, rules: list[Object]
) -> None:
    shutil.copytree(repository / "last", folders / "repository/last")
    manifests = rendered("redis with everything")
    (monitor,) = manifests.of("ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    async with serving(manifests, folders) as server:
        assert endpoint["port"] == "metrics"
        status, text = await asyncio.to_thread(http_get, server.metrics_address, endpoint["path"])
        assert status == 200
        assert (await asyncio.to_thread(http_get, server.health_address, endpoint["path"]))[0] == 404
    assert "# TYPE statewise_queue_seconds histogram" in text
    assert all("statewise_queue_seconds_" in rule["seriesQuery"] for rule in rules)


async def test_a_pod_with_sqlite_keeps_sessions_on_its_volume(rendered: Rendered, folders: Path) -> None:
    async with serving(rendered("sqlite"), folders):
        assert (folders / "var/lib/statewise/sessions.db").exists()
