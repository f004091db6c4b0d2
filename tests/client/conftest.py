"""Both clients behind one face, so that one suite tests both; a relay whose connections can be cut."""

import asyncio
import inspect
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from statewise.client import AsyncClient, Client
from statewise.service.testing import server_in_thread


@pytest.fixture(scope="session")
def address(repository: Path) -> Iterator[str]:
    """A real server on a free port."""
    with server_in_thread(repository) as address:
        yield address


class Loop:
    """An event loop in a thread, for driving `AsyncClient` from blocking tests."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-loop")
        self._thread.start()

    def run(self, awaitable: Any) -> Any:
        async def wait() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Awaited:
    """An asynchronous object seen as a blocking one: the same names, the same results."""

    def __init__(self, loop: Loop, inner: Any) -> None:
        self.__dict__.update(_loop=loop, _inner=inner)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return self._wrapped_call(value) if inspect.ismethod(value) else value

    def __len__(self) -> int:
        return len(self._inner)

    def __enter__(self) -> "Awaited":
        self._loop.run(self._inner.__aenter__())
        return self

    def __exit__(self, *error: Any) -> None:
        self._loop.run(self._inner.__aexit__(*error))

    def _wrapped_call(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            value = method(*arguments, **options)
            if hasattr(value, "__anext__"):
                return self._iterated(value)
            result = self._loop.run(value)
            return Awaited(self._loop, result) if hasattr(result, "step") else result

        return call

    def _iterated(self, values: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._loop.run(anext(values))
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run(values.aclose())


Connect = Callable[..., Any]


@pytest.fixture(params=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of one kind or the other, and closes them."""
    loop = Loop() if request.param == "AsyncClient" else None
    made: list[Any] = []

    def make(address: str, **options: Any) -> Any:
        client = (
            Client(address, **options) if loop is None else Awaited(loop, AsyncClient(address, **options))
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()
    if loop is not None:
        loop.close()


@pytest.fixture
def client(connect: Connect, address: str) -> Any:
    """A client of the server that all tests share."""
    return connect(address)


class Relay:
    """Passes TCP connections on to a server. Replies can be held back, and connections cut."""

    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._connected = threading.Condition()
        self.accepted = 0
        """Connections so far."""
        self._spawn(self._accept)

    def wait_for_connection(self, number: int, timeout_s: float | None = None) -> bool:
        """Until so many connections were made; False: they were not, in that time."""
        with self._connected:
            return self._connected.wait_for(lambda: self.accepted >= number, timeout_s)

    def release_replies(self) -> None:
        """What is held back reaches the client."""
        self._flowing.set()

    def hold_replies(self) -> None:
        """From now on nothing reaches the client."""
        self._flowing.clear()

    def cut(self) -> None:
        """Ends every connection, with whatever is held back, and lets new ones through."""
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._flowing.set()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()  # whom it has let in by then is cut off too
        self.cut()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                with self._connected:
                    self.accepted += 1
                    self._connected.notify_all()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                self._spawn(self._pass_on, near, far, None)
                self._spawn(self._pass_on, far, near, self._flowing)

    def _pass_on(self, source: socket.socket, sink: socket.socket, gate: threading.Event | None) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if gate is not None:
                    gate.wait()
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        if gate is not None:
            source.close()
            sink.close()

    def _spawn(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, name="relay")
        self._threads.append(thread)
        thread.start()


@pytest.fixture
def relay(address: str) -> Iterator[Relay]:
    """A relay to the server that all tests share."""
    relay = Relay(address)
    yield relay
    relay.close()


@pytest.fixture
def server_to_restart(repository: Path) -> Callable[..., Any]:
    """Runs a server that can be stopped, and started anew on the same port with no memory of before."""

    @contextmanager
    def run() -> Iterator[tuple[str, Callable[..., None]]]:
        with ExitStack() as running:
            address = running.enter_context(server_in_thread(repository))

            def restart(*, back: bool = True) -> None:
                running.close()
                if back:
                    running.enter_context(server_in_thread(repository, listen=address))

            yield address, restart

    return run
