"""Runs a real server for tests, on a free port of the loopback interface.

The server is the one that `statewise serve` runs, in the event loop of the test or in a thread of its own.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from statewise.service.base import Settings
from statewise.service.server import Server
from statewise.service.transport import make_event_loop


@asynccontextmanager
async def running_server(
    repository: Path, *, make_server: Callable[[Settings], Server] = Server, **settings: Any
) -> AsyncIterator[str]:
    """Serves a repository in the running event loop; gives HOST:PORT once all versions are loaded.

    The running loop decides the transport: only a loop of `make_event_loop("queue")` serves by the queue.

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
    """Serves a repository from a thread with an event loop of its own; arguments as for `running_server`.

    A server that is still open when the program ends is stopped then.
    """
    transport = _settings(repository, settings).transport
    running = partial(running_server, repository, make_server=make_server, **settings)
    server = _ServerThread(running, transport=transport)
    try:
        yield server.start()
    finally:
        server.stop()


class _ServerThread:
    """A server and its thread.

    Args:
        running: Makes the context in which the server runs.
        transport: How the server speaks gRPC.
    """

    def __init__(self, running: Callable[[], AbstractAsyncContextManager[str]], *, transport: str) -> None:
        self._running = running
        self._make_loop = partial(make_event_loop, transport)
        self._thread = threading.Thread(target=self._run, name="statewise-test-server")
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._address = ""
        self._failure: BaseException | None = None

    def start(self) -> str:
        """Starts the server. Returns its address; raises what the server raised."""
        _stop_at_exit().add(self)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self.stop()
        return self._address

    def stop(self) -> None:
        """Stops the server, once. Raises what the server raised."""
        with suppress(RuntimeError):  # the loop has ended by itself
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        _stop_at_exit().discard(self)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._make_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self._running() as self._address:
            self._ready.set()
            await self._end.wait()


@cache
def _stop_at_exit() -> set[_ServerThread]:
    """Servers that are stopped at the end of the program.

    By the time of `atexit`, the interpreter waits for the servers' threads, and no executor takes work any
    more, which a server needs in order to stop. What is registered here runs before both.
    """
    servers: set[_ServerThread] = set()

    def stop_all() -> None:
        for server in list(servers):
            with suppress(BaseException):  # the program is at its end
                server.stop()

    threading._register_atexit(stop_all)  # type: ignore[attr-defined]
    return servers


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
