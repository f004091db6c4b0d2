"""Starts servers while their models load: the port is open, and nothing serves before it is tested."""

import asyncio
import shutil
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.helpers.caller import Caller, connect
from tests.helpers.errors import info_in, status_of
from tests.helpers.held import Held

from statewise.service import Server, ServerError, ServiceError, Settings
from statewise.service.packages import ServablePackage, read_package
from statewise.service.registry import ModelRegistry
from statewise.v1 import sequence_pb2 as sp
from statewise.wire import pack_uint32, to_tensor

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def make_server(
    repository: Path, read: Callable[[str, int, Path], ServablePackage], **settings: Any
) -> Server:
    options: dict[str, Any] = {"repository": repository, "load_in_child": False, "listen": "127.0.0.1:0"}
    return Server(Settings(**(options | settings)), make_models=partial(ModelRegistry, read_package=read))


async def health(caller: Caller, service: str = "") -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return int((await health_pb2_grpc.HealthStub(caller.channel).Check(request)).status)


async def predict(caller: Caller, model: str, version: int = 0) -> str:
    """The reason that a prediction fails; empty if it succeeds."""
    request = sp.PredictRequest(
        model=model,
        version=version,
        lengths=pack_uint32([1]),
        inputs={"x": to_tensor(np.zeros((1, 3), np.float32))},
    )
    try:
        async for _ in caller.sequences.Predict(request):
            pass
    except grpc.aio.AioRpcError as error:
        return str(info_in(status_of(error)).reason)
    return ""


async def test_while_models_load_the_port_answers_and_nothing_serves(repository: Path) -> None:
    read = Held(read_package)
    read.arm()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    server = make_server(repository, read, listen=address)
    starting = asyncio.create_task(server.start())
    try:
        async with connect(address, max_reconnect_backoff_ms=500) as caller:
            await caller.channel.channel_ready()
            assert await predict(caller, "steps") == "MODEL_LOADING"
            assert await predict(caller, "nobody") == "MODEL_NOT_FOUND"
            assert (await health(caller), await health(caller, "models/steps")) == (NOT_SERVING, NOT_SERVING)
            assert not starting.done()
            read.go_on.set()
            assert await starting == server.address == address
            assert await predict(caller, "steps") == ""
            assert (await health(caller), await health(caller, "models/steps")) == (SERVING, SERVING)
    finally:
        read.go_on.set()
        await asyncio.gather(starting, return_exceptions=True)
        await server.stop()


async def test_one_slow_model_does_not_hold_up_the_start_for_ever(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "steps" / "1", tmp_path / "slow" / "1")
    shutil.copytree(repository / "steps" / "1", tmp_path / "steps" / "1")
    held = Held(read_package)
    held.arm()

    def read(name: str, version: int, folder: Path) -> ServablePackage:
        return (held if name == "slow" else read_package)(name, version, folder)

    server = make_server(tmp_path, read, startup_s=0.2)
    try:
        address = await server.start()
        async with connect(address) as caller:
            while await predict(caller, "steps") == "MODEL_LOADING":
                pass
            assert await predict(caller, "slow") == "MODEL_LOADING"
            assert await health(caller) == SERVING
            held.go_on.set()
            await server.wait_until_loaded()
            assert await predict(caller, "slow") == ""
            assert await health(caller, "models/slow") == SERVING
    finally:
        held.go_on.set()
        await server.stop()


async def test_a_lower_version_does_not_serve_by_default_while_the_highest_is_loaded(
    repository: Path, tmp_path: Path
) -> None:
    shutil.copytree(repository / "steps", tmp_path / "steps")
    held = Held(read_package)
    held.arm()

    def read(name: str, version: int, folder: Path) -> ServablePackage:
        return (held if version == 2 else read_package)(name, version, folder)

    server = make_server(tmp_path, read, startup_s=0)
    try:
        async with connect(await server.start()) as caller:
            while await predict(caller, "steps", 1) == "MODEL_LOADING":
                pass
            assert await predict(caller, "steps", 1) == ""
            assert await predict(caller, "steps") == "MODEL_LOADING"
            held.go_on.set()
            await server.wait_until_loaded()
            assert await predict(caller, "steps") == ""
    finally:
        held.go_on.set()
        await server.stop()


class RecordedRegistry(ModelRegistry):
    """Notes when it begins to load models, and what was open by then."""

    def __init__(self, begun: list[str], servers: list[Server], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._begun, self._servers = begun, servers

    def begin(self) -> None:
        self._begun.append(self._servers[-1].address)
        super().begin()


async def test_nothing_is_loaded_before_everything_else_is_checked(repository: Path, tmp_path: Path) -> None:
    begun: list[str] = []
    servers: list[Server] = []

    def make(**settings: Any) -> Server:
        options: dict[str, Any] = {"repository": repository, "load_in_child": False, "listen": "127.0.0.1:0"}
        registry = partial(RecordedRegistry, begun, servers)
        servers.append(Server(Settings(**(options | settings)), make_models=registry))
        return servers[-1]

    first = make()
    try:
        address = await first.start()
        assert begun == [address]  # the port is open by then
        (tmp_path / "file").write_text("neither a certificate nor callers")
        file = tmp_path / "file"
        for settings, words in (
            ({"listen": address}, "cannot listen on"),
            ({"metrics_listen": address}, "cannot listen on .* for metrics"),
            ({"tls_certificate": file, "tls_key": file}, "file"),
            ({"callers": file}, "file"),
            ({"listen": "0.0.0.0:0"}, "can be reached from outside"),
            ({"repository": tmp_path / "nowhere"}, "is not a folder"),
        ):
            server = make(**settings)
            with pytest.raises((ServerError, ServiceError), match=words):
                await server.start()
            await server.stop()
        assert begun == [address]
    finally:
        await first.stop()
