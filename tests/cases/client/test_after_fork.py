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


def parent(target: str, name: str, results: Connection) -> None:
    """A program that forks: sends what its child found, the child's exit code, and what it found itself."""
    fork = multiprocessing.get_context("fork")
    with Client(target) as client:
        session = client.session("steps")
        session.step(X[0])

        def child(pipe: Connection) -> None:
            try:
                pipe.send((TOLD | DONE)[name](client, session, target))
            except BaseException as error:
                pipe.send(f"{type(error).__name__}: {error}")

        mine, theirs = fork.Pipe()
        process = fork.Process(target=child, args=(theirs,))
        process.start()
        found = mine.recv() if mine.poll(100) else "the child hangs"
        process.join(100)
        results.send((found, process.exitcode, client.predict("steps", X), session.step(X[1])))


@pytest.mark.parametrize("name", [*TOLD, *DONE])
def test_child_and_parent(server: Server, small_models: SmallModels, name: str) -> None:
    expected, _ = small_models.find("steps").run(X)
    # A program of its own: this one may hold servers and channels of other tests.
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe()
    program = spawn.Process(target=parent, args=(server.target, name, theirs))
    program.start()
    assert mine.poll(200), "the program hangs"
    found, exit_code, predicted, stepped = mine.recv()
    program.join(100)
    assert program.exitcode == 0
    assert exit_code == 0
    if name in TOLD:
        assert found.startswith("Unavailable: the client was made before fork()"), found
    elif name == "a new client":
        np.testing.assert_array_equal(found, expected)
    else:
        assert found is None
    np.testing.assert_array_equal(predicted, expected)
    np.testing.assert_array_equal(stepped, expected[1])
