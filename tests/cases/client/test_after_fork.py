"""Forks programs that hold a client: the child is told at once or uses its own, and the parent goes on."""

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.command import Server
from tests.helpers.models.small import SmallModels

from statewise.client import Client, Session
from statewise.client.bulk import Sample

X = np.ones((5, 3), np.float32)
Deed = Callable[[Client, Session, str], Any]


def with_its_own(_client: Client, _session: Session, target: str) -> Any:
    with Client(target) as own:
        return own.predict("steps", X)


TOLD: dict[str, Deed] = {
    "step": lambda client, session, target: session.step(X[1]),
    "predict": lambda client, session, target: client.predict("steps", X),
    "models": lambda client, session, target: client.models(),
    "score": lambda client, session, target: list(client.score("steps", [Sample("a", X)])),
}
"""What a child cannot do with the client of its parent."""
DONE: dict[str, Deed] = {
    "nothing": lambda client, session, target: None,
    "close": lambda client, session, target: client.close(),
    "a new client": with_its_own,
}


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with Server(repository) as server:
        yield server


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", [*TOLD, *DONE])
def test_child_and_parent(server: Server, small_models: SmallModels, name: str) -> None:
    expected, _ = small_models.find("steps").run(X)
    fork = multiprocessing.get_context("fork")
    with Client(server.target) as client:
        session = client.session("steps")
        session.step(X[0])

        def child(pipe: Connection) -> None:
            try:
                pipe.send((TOLD | DONE)[name](client, session, server.target))
            except BaseException as error:
                pipe.send(f"{type(error).__name__}: {error}")

        mine, theirs = fork.Pipe()
        process = fork.Process(target=child, args=(theirs,))
        process.start()
        assert mine.poll(100), "the child hangs"
        found = mine.recv()
        process.join(100)
        assert process.exitcode == 0
        if name in TOLD:
            assert found.startswith("Unavailable: the client was made before fork()"), found
        elif name == "a new client":
            np.testing.assert_array_equal(found, expected)
        else:
            assert found is None
        np.testing.assert_array_equal(client.predict("steps", X), expected)
        np.testing.assert_array_equal(session.step(X[1]), expected[1])
