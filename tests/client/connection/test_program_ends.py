"""Ends programs that did not close their client, forks them, and drops clients and sessions."""

import gc
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import pytest
from tests.helpers.arrays import Floats

from statewise.client import Client, StatewiseError, Unavailable
from statewise.client.bulk import Sample

PROGRAM = """
import sys, numpy as np
from statewise.client import Client
x = np.zeros(3, "f")
def use(client):
    session = client.session("steps")
    session.step(x)
    client.predict("steps", x[None])
    return session
if sys.argv[2] == "raise":
    with Client(sys.argv[1]) as client:
        session = use(client)
        raise SystemExit(3)
if sys.argv[2] == "fail":
    client = Client(sys.argv[1])
    session = use(client)
    session.step(x[:2])
client = Client(sys.argv[1])
session = use(client)
"""
ASYNC_PROGRAM = """
import asyncio, sys, numpy as np
from statewise.client import AsyncClient
async def main():
    client = AsyncClient(sys.argv[1])
    session = await client.session("steps")
    await session.step(np.zeros(3, "f"))
    if sys.argv[2] == "raise":
        raise SystemExit(3)
asyncio.run(main())
"""


@pytest.mark.parametrize("end", ["raise", "fail", "never closed"])
def test_programs_that_leave_their_client_open_end(address: str, end: str) -> None:
    code = {"raise": 3, "fail": 1, "never closed": 0}[end]
    for program in [PROGRAM] * 4 + [ASYNC_PROGRAM]:
        if program is ASYNC_PROGRAM and end == "fail":
            continue
        done = subprocess.run(
            [sys.executable, "-c", program, address, end], timeout=60, capture_output=True, check=False
        )
        assert done.returncode == code, done.stderr


def test_a_client_that_is_dropped_leaves_no_threads(address: str, x: Floats) -> None:
    before = set(threading.enumerate())
    client = Client(address)
    session = client.session("steps")
    session.step(x[0])
    del client
    session.step(x[1])  # a session keeps its client
    assert set(threading.enumerate()) - before
    del session
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


def test_anonymous_sessions_that_were_dropped_are_closed_with_the_client(address: str, x: Floats) -> None:
    with Client(address) as observer:
        before = {each.id for each in observer.list_sessions()}
        client = Client(address)
        for _ in range(3):
            client.session("steps").step(x[0])
        client.sessions("steps", count=4).step(x[:4])
        kept = client.session("steps", keep=True)
        closed = client.session("steps")
        closed.close()
        gc.collect()
        assert len({each.id for each in observer.list_sessions()} - before) == 8
        client.close()
        assert {each.id for each in observer.list_sessions()} - before == {kept.id}
        observer.resume(kept.id).close()


def test_threads_that_step_while_the_client_is_closed_are_told_so(address: str, x: Floats) -> None:
    client = Client(address)
    sessions = [client.session("steps") for _ in range(4)]
    errors: list[StatewiseError] = []
    begun = threading.Barrier(5)

    def step_on(index: int) -> None:
        begun.wait()
        try:
            while True:
                sessions[index].step(x[0])
        except StatewiseError as error:
            errors.append(error)

    threads = [threading.Thread(target=step_on, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    client.close()
    for thread in threads:
        thread.join(30)
    assert [type(error) for error in errors] == [Unavailable] * 4
    assert {str(error) for error in errors} == {"the client is closed; make a new one"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_client_in_a_forked_child_says_so_at_once(address: str, x: Floats) -> None:
    client = Client(address)
    session = client.session("steps")
    session.step(x[0])
    deeds: list[Callable[[], object]] = [
        lambda: session.step(x[1]),
        lambda: client.predict("steps", x),
        client.models,
        lambda: list(client.score("steps", [Sample("a", x)])),
    ]

    def child(pipe: Connection) -> None:
        for deed in deeds:
            try:
                pipe.send(repr(deed()))
            except BaseException as error:
                pipe.send(f"{type(error).__name__}: {error}")
        client.close()
        pipe.send("closed")

    mine, theirs = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(theirs,))
    process.start()
    told = []
    for _ in range(5):
        assert mine.poll(30)
        told.append(mine.recv())
    process.join(30)
    assert process.exitcode == 0
    assert all(text.startswith("Unavailable: the client was made before fork()") for text in told[:4]), told
    assert told[4] == "closed"
    assert np.isfinite(session.step(x[1])).all()
    client.close()
