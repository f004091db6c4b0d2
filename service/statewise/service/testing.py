"""Runs a real server for tests, on a free port of the loopback interface.

The server is the one that `statewise serve` runs, in the event loop of the test or in a thread of its own.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from statewise.service.base import Settings
from statewise.service.server import Server


@asynccontextmanager
async def running_server(
    repository: Path, *, make_server: Callable[[Settings], Server] = Server, **settings: Any
) -> AsyncIterator[str]:
    """Serves a repository in the running event loop; gives HOST:PORT once all versions are loaded.

    Versions are loaded in this process, which saves the start of a child. A test of files that might crash
    onnxruntime sets `load_in_child=True`.

    Args:
        repository: Folder of models.
        make_server: Makes the server from its settings.
        settings: Further entries of `Settings`, over defaults that suit tests.
    """
    server = make_server(_settings(repository, settings))
    try:
        address = await server.start()
        await server.wait_until_loaded()
        yield address
    finally:
        await server.stop()


@contextmanager
def server_in_thread(
    repository: Path, *, make_server: Callable[[Settings], Server] = Server, **settings: Any
) -> Iterator[str]:
    """Serves a repository from a thread with an event loop of its own; arguments as for `running_server`."""
    started: list[str] = []
    failure: list[BaseException] = []
    ready = threading.Event()
    ended: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        end = asyncio.Event()
        ended.append((asyncio.get_running_loop(), end))
        async with running_server(repository, make_server=make_server, **settings) as address:
            started.append(address)
            ready.set()
            await end.wait()

    def target() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            failure.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=target, name="statewise-test-server")
    thread.start()
    ready.wait()
    try:
        if failure:
            raise failure[0]
        yield started[0]
    finally:
        if not failure:
            loop, end = ended[0]
            loop.call_soon_threadsafe(end.set)
        thread.join()
    if failure:
        raise failure[0]


def _settings(repository: Path, settings: dict[str, Any]) -> Settings:
    return Settings(
        **{
            "repository": repository,
            "listen": "127.0.0.1:0",
            "grace_s": 5.0,
            "load_in_child": False,
            **settings,
        }
    )
