"""Closes clients while their threads or tasks are at work: each is told that the client is closed."""

import threading
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.helpers.models.generative import write_generative_models

from statewise.client import Client, Unavailable
from statewise.service.testing import server_in_thread

X = np.ones((4, 3), np.float32)
MANY = 1_000_000


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root: Path = tmp_path_factory.mktemp("generative")
    write_generative_models(root)
    with server_in_thread(root) as address:
        yield address


def repeated(call: Callable[[], Any]) -> Iterator[Any]:
    while True:
        yield call()


def work(client: Client) -> dict[str, Iterator[Any]]:
    """Returns work without an end, by its name; each item shows that it goes on."""
    session, group, talker = (
        client.session("wave"),
        client.sessions("wave", count=3),
        client.session("chatter"),
    )
    return {
        "step": repeated(lambda: session.step(X[0])),
        "step of a group": repeated(lambda: group.step(X[:3])),
        "open": repeated(lambda: client.session("wave")),
        "predict": repeated(lambda: client.predict("wave", X)),
        "list": repeated(client.models),
        "generate": client.generate("chatter", steps=MANY),
        "generate in a session": talker.generate(steps=MANY),
        "score": client.score("wave", repeat(X)),
        "watch": client.watch_stats(interval=0.1),
    }


def test_whoever_is_at_work_is_told_that_the_client_is_closed(clients: Clients, address: str) -> None:
    client = clients.connect(address)
    errors: dict[str, BaseException] = {}
    under_way = {name: (items, threading.Event()) for name, items in work(client).items()}

    def run(name: str) -> None:
        items, begun = under_way[name]
        try:
            for _ in items:
                begun.set()
        except BaseException as error:
            errors[name] = error
        finally:
            begun.set()

    threads = [threading.Thread(target=run, args=(name,), name=name) for name in under_way]
    for thread in threads:
        thread.start()
    for _, begun in under_way.values():
        assert begun.wait(60)
    client.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), thread.name
    told = {name: f"{type(error).__name__}: {error}" for name, error in errors.items()}
    assert told == dict.fromkeys(under_way, "Unavailable: the client is closed; make a new one")


@pytest.mark.parametrize("call", ["predict", "score"])
def test_a_call_that_waits_for_its_next_try_ends_with_the_client(clients: Clients, call: str) -> None:
    client = clients.connect("127.0.0.1:1", reconnect_s=600)
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            client.predict("any", X) if call == "predict" else list(client.score("any", [X]))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    with pytest.raises(Unavailable, match="is a server running there"):
        client.server()  # by then the other call has been tried, too
    client.close()
    thread.join(60)
    assert [str(error) for error in raised] == ["the client is closed; make a new one"]
