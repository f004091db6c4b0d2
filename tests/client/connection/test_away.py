"""Keeps servers away for longer than a few tries take: calls that may be repeated wait for them."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.restarts import RestartableServer
from tests.helpers.models.generative import write_generative_models

from statewise.client import Client, Timeout, Unavailable

CALLS = ("predict", "generate", "score", "session")
CONNECTIONS = 7
"""More connections than are tried while a call is made four times; clients of one address share the tries."""


@pytest.fixture(scope="module")
def generative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generative")
    write_generative_models(root)
    return root


@pytest.fixture
def server(generative: Path) -> Iterator[RestartableServer]:
    with RestartableServer(generative) as server:
        yield server


def refuse_connections(address: str, number: int) -> None:
    """Listens in a server's place, and closes so many connections at once."""
    host, port = address.rsplit(":", 1)
    with socket.create_server((host, int(port))) as listener:
        for _ in range(number):
            listener.accept()[0].close()


def ask(client: Client, call: str) -> Any:
    x = np.ones((4, 3), np.float32)
    match call:
        case "predict":
            return client.predict("wave", x)
        case "generate":
            return [int(token) for token in client.generate("chatter", steps=9, seed=3, text=False)]
        case "score":
            return [scored.outputs for scored in client.score("wave", [x, x])]
        case "session":
            with client.session("chatter") as session:
                return [int(token) for token in session.generate(steps=9, seed=3, text=False)]
    raise AssertionError(call)


def test_calls_wait_for_a_server_that_is_away(server: RestartableServer, clients: Clients) -> None:
    """Those of clients that have seen the server before, and those of clients that have not."""
    other = clients.connect(server.address)
    expected = {call: ask(other, call) for call in CALLS}
    waiting_clients = [
        (call, known, clients.connect(server.address, reconnect_s=60))
        for call in CALLS
        for known in (True, False)
    ]
    for call, known, client in waiting_clients:
        if known:
            ask(client, call)
    server.stop()
    with ThreadPoolExecutor(len(waiting_clients)) as pool:
        waiting = [(call, pool.submit(ask, client, call)) for call, _, client in waiting_clients]
        refuse_connections(server.address, CONNECTIONS)
        server.restart()
        for call, future in waiting:
            np.testing.assert_array_equal(future.result(), expected[call])


@pytest.mark.parametrize("call", ["predict", "generate", "score"])
def test_no_call_waits_beyond_its_timeout_or_the_patience_of_its_client(clients: Clients, call: str) -> None:
    hasty: Callable[..., Any] = {
        "predict": lambda client, **options: client.predict("any", [1], **options),
        "generate": lambda client, **options: list(client.generate("any", steps=1, **options)),
        "score": lambda client, **options: list(client.score("any", [[1]], **options)),
    }[call]
    with pytest.raises((Timeout, Unavailable)):
        hasty(clients.connect("127.0.0.1:1", reconnect_s=600), timeout=0.3)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        hasty(clients.connect("127.0.0.1:1", reconnect_s=0.3))


@pytest.mark.parametrize("question", ["models", "server", "list_sessions", "model", "session_info", "states"])
def test_questions_are_soon_told_that_nobody_listens(clients: Clients, question: str) -> None:
    client = clients.connect("127.0.0.1:1", reconnect_s=600)
    with pytest.raises(Unavailable, match="is a server running there"):
        getattr(client, question)(*["any"] if question in ("model", "session_info", "states") else [])
