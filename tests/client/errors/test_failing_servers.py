"""Asks servers that stop, drain or fail: each exception says what to do."""

import asyncio
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.errors.expectations import SAMPLE, raises
from tests.client.errors.token_table import write_token_table

from statewise.client import (
    Client,
    InternalError,
    Unavailable,
)
from statewise.service import Server
from statewise.service.registry import ModelRegistry
from statewise.service.testing import server_in_thread


def test_nobody_listens(clients: Clients) -> None:
    with raises(Unavailable, r"127\.0\.0\.1:1", "is a server running there"):
        clients.connect("127.0.0.1:1").models()


def test_a_server_that_shuts_down(repository: Path, clients: Clients) -> None:
    leave, entered = threading.Event(), threading.Event()
    addresses: list[str] = []

    def serve() -> None:
        with server_in_thread(repository) as address:
            addresses.append(address)
            entered.set()
            leave.wait()

    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(serve)
        entered.wait()
        client = clients.connect(addresses[0], reconnect_s=0.2)
        client.predict("steps", SAMPLE[None])
        leave.set()
        told = str(until_refused(client))
        serving.result()
    # The advice depends on how far the server has stopped.
    advices = ("connect to another one", "is a server running there", "try again")
    assert any(advice in told for advice in advices), told


def test_a_server_that_takes_nothing_new(repository: Path, clients: Clients) -> None:
    following, draining, go_on = threading.Event(), threading.Event(), threading.Event()

    class Registry(ModelRegistry):
        async def follow(self) -> None:
            """Keeps the server from stopping until `go_on` is set."""
            following.set()
            try:
                await asyncio.Event().wait()
            finally:
                draining.set()
                await asyncio.to_thread(go_on.wait, 60)

    make_server = partial(Server, make_models=Registry)
    with ExitStack() as server, ThreadPoolExecutor(1) as pool:
        address = server.enter_context(
            server_in_thread(repository, make_server=make_server, repository_poll_s=0.01)
        )
        client = clients.connect(address, reconnect_s=0)
        client.predict("steps", SAMPLE[None])
        assert following.wait(60)
        stopping = pool.submit(server.close)
        try:
            assert draining.wait(60)
            with raises(Unavailable, "shutting down", "connect to another one"):
                client.predict("steps", SAMPLE[None])
            with raises(Unavailable, "shutting down", "connect to another one"):
                client.session("steps").step(SAMPLE)
        finally:
            go_on.set()
        stopping.result()


def test_a_package_that_cannot_be_loaded(clients: Clients, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "model.onnx").write_bytes(b"no graph")
    shutil.copytree(repository / "last", tmp_path / "last")
    client = clients.serve(tmp_path)
    why = ("'broken' version 1 could not be loaded", "it is no ONNX file, or a damaged one")
    with raises(Unavailable, *why):
        client.predict("broken", SAMPLE[None])
    with raises(Unavailable, *why):
        client.session("broken")
    (broken,) = (model for model in client.models() if model.name == "broken")
    assert broken.status == "failed"
    assert "cannot load it" in broken.failure


def test_an_unknown_fault_is_told_in_the_log_alone(
    clients: Clients, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = clients.serve(write_token_table(tmp_path))
    np.testing.assert_array_equal(client.predict("table", [1, 2]), [[2, 3], [4, 5]])
    with raises(InternalError, "failed on this row", "the server's log has the detail") as caught:
        client.predict("table", [1, 9])
    assert "Gather" in caplog.text
    assert "Gather" not in str(caught.value)


def until_refused(client: Client) -> Unavailable:
    try:
        while True:
            client.predict("steps", SAMPLE[None])
    except Unavailable as error:
        return error
