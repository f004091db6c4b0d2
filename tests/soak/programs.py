"""Holds programs that end without closing their client, each in a way of its own.

Those that raise keep the exception, and the frames of its traceback, until the interpreter ends; others keep
objects in `kept`.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from statewise.cli._app import make_app
from statewise.client import AsyncClient, AsyncSession, Client, Session, StatewiseError
from statewise.client.bulk import Sample

X = np.zeros(3, np.float32)
STEPS = 5_000
kept: list[Any] = []


class LeftError(Exception):
    """Ends a program."""


def used(client: Client) -> Session:
    session = client.session("wave")
    session.step(X)
    client.predict("wave", X[None])
    return session


async def used_async(client: AsyncClient) -> AsyncSession:
    session = await client.session("wave")
    await session.step(X)
    await client.predict("wave", X[None])
    return session


def endless() -> Iterator[Sample]:
    while True:
        yield Sample("a", np.zeros((5, 3), np.float32))


def interrupt_soon() -> None:
    threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()


def in_daemons(count: int, begin: Callable[[], Callable[[], object]]) -> None:
    """Calls what `begin` returns again and again in threads that the interpreter does not wait for."""
    begun = threading.Barrier(count + 1)

    def run() -> None:
        again = begin()
        again()
        begun.wait()
        while True:
            with suppress(StatewiseError):
                again()

    for _ in range(count):
        threading.Thread(target=run, daemon=True).start()
    begun.wait()


# Programs that block.


def raise_in_with(address: str) -> None:
    with Client(address) as client:
        kept.append(used(client))
        raise LeftError


def raise_without_with(address: str) -> None:
    session = used(Client(address))
    session.step(X[:2])


def never_close(address: str) -> None:
    kept.append(used(Client(address)))


def drop(address: str) -> None:
    used(Client(address))


def exit_in_thread(address: str) -> None:
    client = Client(address)

    def run() -> None:
        kept.append(used(client))
        sys.exit(3)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def interrupt_step(address: str) -> None:
    session = used(Client(address))
    interrupt_soon()
    while True:
        session.step(X)


def interrupt_step_in_with(address: str) -> None:
    with Client(address) as client, client.session("wave") as session:
        interrupt_soon()
        while True:
            session.step(X)


def raise_in_generation(address: str) -> None:
    kept.append(Client(address).generate("chatter", steps=STEPS))
    for _ in kept[0]:
        raise LeftError


def raise_in_generation_of_session(address: str) -> None:
    for _ in used(Client(address)).generate(steps=STEPS):
        raise LeftError


def raise_in_score(address: str) -> None:
    for _ in Client(address).score("wave", endless()):
        raise LeftError


def keep_score(address: str) -> None:
    kept.append(Client(address).score("wave", endless()))
    next(kept[0])


def raise_in_stats(address: str) -> None:
    for _ in Client(address).watch_stats(interval=0.1):
        raise LeftError


def step_in_daemons(address: str) -> None:
    client = Client(address)

    def begin() -> Callable[[], object]:
        session = used(client)
        return lambda: session.step(X)

    in_daemons(3, begin)


def own_clients_in_daemons(address: str) -> None:
    def begin() -> Callable[[], object]:
        client = Client(address)
        generated = client.generate("chatter", steps=STEPS)
        kept.append(generated)
        next(generated)
        return lambda: (client.predict("wave", X[None]), client.models())

    in_daemons(3, begin)


def new_clients_in_daemons(address: str) -> None:
    in_daemons(2, lambda: lambda: used(Client(address)))


def score_in_daemon(address: str) -> None:
    in_daemons(1, lambda: lambda: next(iter(Client(address).score("wave", endless()))))


def reach_nobody(_: str) -> None:
    session_of = Client("127.0.0.1:1").session
    threading.Thread(target=lambda: session_of("wave"), daemon=True).start()
    raise LeftError


def stream_a_bad_line(address: str) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"[0, 0, 0]\n[0, 0, 0]\n[1, 2\n")
    os.close(writing)
    os.dup2(reading, 0)
    make_app()(["stream", "--model", "wave", "--target", address])


# Programs that await.


async def raise_in_async_with(address: str) -> None:
    async with AsyncClient(address) as client:
        kept.append(await used_async(client))
        raise LeftError


async def raise_without_async_with(address: str) -> None:
    session = await used_async(AsyncClient(address))
    await session.step(X[:2])


async def never_close_async(address: str) -> None:
    kept.append(await used_async(AsyncClient(address)))


async def drop_async(address: str) -> None:
    await used_async(AsyncClient(address))


async def interrupt_async_step(address: str) -> None:
    session = await used_async(AsyncClient(address))
    interrupt_soon()
    while True:
        await session.step(X)


async def raise_in_async_generation(address: str) -> None:
    kept.append(AsyncClient(address).generate("chatter", steps=STEPS))
    async for _ in kept[0]:
        raise LeftError


async def raise_in_async_score(address: str) -> None:
    kept.append(AsyncClient(address).score("wave", endless()))
    async for _ in kept[0]:
        raise LeftError


async def leave_tasks(address: str) -> None:
    client = AsyncClient(address)

    async def run() -> None:
        session = await used_async(client)
        while True:
            await session.step(X)

    kept.extend(asyncio.create_task(run()) for _ in range(3))
    await used_async(client)


def await_in_daemon(address: str) -> None:
    begun = threading.Event()

    async def run() -> None:
        session = await used_async(AsyncClient(address))
        begun.set()
        with suppress(StatewiseError):
            while True:
                await session.step(X)

    threading.Thread(target=asyncio.run, args=(run(),), daemon=True).start()
    begun.wait()


def keep_loop(address: str) -> None:
    kept.append(asyncio.new_event_loop())
    kept.append(kept[0].run_until_complete(used_async(AsyncClient(address))))


RAISED = 1
INTERRUPTED = -signal.SIGINT

PROGRAMS: dict[Callable[[str], Any], int] = {
    raise_in_with: RAISED,
    raise_without_with: RAISED,
    never_close: 0,
    drop: 0,
    exit_in_thread: 0,
    interrupt_step: INTERRUPTED,
    interrupt_step_in_with: INTERRUPTED,
    raise_in_generation: RAISED,
    raise_in_generation_of_session: RAISED,
    raise_in_score: RAISED,
    keep_score: 0,
    raise_in_stats: RAISED,
    step_in_daemons: 0,
    own_clients_in_daemons: 0,
    new_clients_in_daemons: 0,
    score_in_daemon: 0,
    reach_nobody: RAISED,
    stream_a_bad_line: RAISED,
    raise_in_async_with: RAISED,
    raise_without_async_with: RAISED,
    never_close_async: 0,
    drop_async: 0,
    interrupt_async_step: INTERRUPTED,
    raise_in_async_generation: RAISED,
    raise_in_async_score: RAISED,
    leave_tasks: 0,
    await_in_daemon: 0,
    keep_loop: 0,
}
"""The programs, and the code that each exits with."""
