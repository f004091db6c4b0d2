"""Sends requests that once ended gRPC's accept loop, and makes the loop fail: streams go on."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc._cython import cygrpc
from tests.helpers.attacks.http2 import Connection
from tests.helpers.caller import connect
from tests.helpers.metrics_server import http_get
from tests.helpers.models.small import SmallModels
from tests.helpers.server_process import ServerProcesses

from statewise.service import Settings
from statewise.service.server import Server
from statewise.service.testing import running_server
from statewise.service.transport import make_event_loop, port_answers
from statewise.v1 import admin_pb2

_NOT_UTF8 = "\udce9\udcff"
_UNIMPLEMENTED = b"grpc-status\x0212"
_ALONE = "STATEWISE_TEST_RUNS_ALONE"
registers_methods = pytest.mark.skipif(
    not hasattr(cygrpc.AioServer, "_request_registered_call"),
    reason="this grpcio registers no methods, and its accept loop is used unchanged",
)


async def ask_version(address: str) -> str:
    """Calls the server over a connection of its own."""
    async with connect(address) as caller:
        return str((await caller.admin.GetServer(admin_pb2.GetServerRequest())).version)


@pytest.mark.parametrize("own_process", [False, True], ids=["asyncio's loop", "the server's loop"])
async def test_a_path_that_is_not_utf8_is_an_unknown_method(
    processes: ServerProcesses,
    repository: Path,
    small_models: SmallModels,
    random: np.random.Generator,
    own_process: bool,
) -> None:
    """Several in a row, without credentials; a stream that stands goes on, and new connections are served."""
    x = random.standard_normal((40, 3)).astype(np.float32)
    outputs = []
    async with (
        running_server(repository) as own,
        connect(address := processes.start().address if own_process else own) as caller,
    ):
        (handle,) = await caller.open("steps", "a")
        for number in range(40):
            with Connection(address) as attacker:
                attacker.call(f"/{_NOT_UTF8}")
                outputs.append(await caller.step(handle, number, x[number]))
                if number % 10 == 0:
                    assert _UNIMPLEMENTED in await asyncio.to_thread(attacker.trailers)
                    assert await ask_version(address)
    assert np.concatenate(outputs).tobytes() == small_models.find("steps").run(x)[0].tobytes()


async def test_metadata_that_is_not_utf8_is_not_logged(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_server(repository) as address:
        with caplog.at_level(logging.DEBUG), Connection(address) as attacker:
            attacker.call("/statewise.v1.AdminService/GetServer", authorization=f"Bearer secret{_NOT_UTF8}")
            attacker.message(b"", announced=0)
            await asyncio.to_thread(attacker.trailers)
    assert "secret" not in caplog.text
    assert "Invalid encoding" not in caplog.text


@registers_methods
def test_if_the_accept_loop_of_aio_fails_streams_go_on_and_probes_say_so(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is not ready first and not alive later; it stops as ever.

    In a process of its own: grpc.aio, broken on purpose, sometimes ends the process with a signal, and such a
    run says nothing. A run that ends by itself must succeed.
    """
    if _ALONE not in os.environ:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            __file__,
            "-k",
            "accept_loop",
        ]
        environment = {**os.environ, _ALONE: "1"}
        for _ in range(6):
            ended = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=100, check=False
            )
            if ended.returncode >= 0:
                break
        assert ended.returncode == 0, ended.stdout
        return
    with asyncio.Runner(loop_factory=partial(make_event_loop, "aio")) as runner:
        runner.run(accept_loop_fails(repository, monkeypatch))


async def accept_loop_fails(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks the accept loop of grpc.aio under a stream."""
    (accepting,) = cygrpc.AioServer.__subclasses__()
    request_call = cygrpc.AioServer._request_registered_call
    broken = False

    async def request(core: Any, method: bytes) -> Any:
        if broken:
            raise RuntimeError("gRPC is broken")
        return await request_call(core, method)

    monkeypatch.setattr(accepting, "_request_registered_call", request, raising=False)
    settings = Settings(repository=repository, listen="127.0.0.1:0", metrics_listen="127.0.0.1:0")
    serving = Server(settings, port_check_s=0.02)
    address = await serving.start()
    async with connect(address) as caller:
        (handle,) = await caller.open("steps", "a")
        assert await asyncio.to_thread(http_get, serving.metrics_address, "/healthz") == (200, "alive\n")
        broken = True
        with suppress(grpc.aio.AioRpcError):  # the call after which the loop fails may be lost with it
            await ask_version(address)
        x = np.ones(3, np.float32)
        position = 0
        while (await asyncio.to_thread(http_get, serving.metrics_address, "/healthz"))[0] == 200:
            await caller.step(handle, position, x)
            position += 1
        assert await asyncio.to_thread(http_get, serving.metrics_address, "/readyz") == (
            503,
            "the server's port does not answer\n",
        )
        await caller.step(handle, position, x)
    await serving.stop()


def test_ports_that_answer_and_ports_that_do_not() -> None:
    """Silence and refusal are no answers; the end of the connection is one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def answers(timeout_s: float = 5.0) -> bool:
            return port_answers(address, certificate=None, key=None, timeout_s=timeout_s)

        assert not answers(0.05)
        listener.accept()[0].close()
        with ThreadPoolExecutor() as threads:
            answer = threads.submit(answers)
            listener.accept()[0].close()
            assert answer.result()
    assert not answers()


@registers_methods
def test_what_is_overridden_in_grpc_is_there() -> None:
    """If this fails, see the decision about the accept loop in docs/design.md."""
    overridden = {"_request_call", "_request_registered_call", "_server_main_loop", "shutdown", "is_running"}
    assert overridden <= set(dir(cygrpc.AioServer))
    assert hasattr(cygrpc, "_ServicerContext")
    assert hasattr(cygrpc, "_schedule_rpc_coro")
