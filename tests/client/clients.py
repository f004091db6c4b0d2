"""Shows `AsyncClient` as a blocking client, so that one suite tests both."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from statewise.client import AsyncClient, Client
from statewise.service.testing import server_in_thread


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-loop")
        self._thread.start()

    def run(self, awaitable: Any) -> Any:
        """Blocks until an awaitable is done; returns its result."""

        async def wait() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def close(self) -> None:
        """Stops the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Awaited:
    """An asynchronous object seen as a blocking one: the same names, the same results."""

    def __init__(self, loop: LoopThread, inner: Any) -> None:
        self.__dict__.update(_loop=loop, _inner=inner)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return self._wrapped_call(value) if inspect.ismethod(value) else value

    def __len__(self) -> int:
        return len(self._inner)

    def __enter__(self) -> "Awaited":
        self._loop.run(self._inner.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
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


class Clients:
    """Makes clients of one kind, and closes them with the servers made for them.

    Args:
        kind: `Client`, or `AsyncClient`, whose clients are then seen as blocking ones.
    """

    def __init__(self, kind: type[Client] | type[AsyncClient]) -> None:
        self._loop = LoopThread() if kind is AsyncClient else None
        self._made: list[Client] = []
        self._servers = ExitStack()

    def connect(self, address: str, **options: Any) -> Client:
        """Makes a client of a server; options as for `Client`."""
        if self._loop is None:
            client = Client(address, **options)
        else:
            client = cast(Client, Awaited(self._loop, AsyncClient(address, **options)))
        self._made.append(client)
        return client

    def serve(self, repository: Path, **settings: Any) -> Client:
        """Starts a server of its own, which runs until the end of the test; makes a client of it."""
        return self.connect(self.start(repository, **settings))

    def start(self, repository: Path, **settings: Any) -> str:
        """Starts a server, which runs until the end of the test; returns its address."""
        return self._servers.enter_context(server_in_thread(repository, **settings))

    def close(self) -> None:
        """Closes the clients and stops the servers."""
        for client in self._made:
            client.close()
        self._servers.close()
        if self._loop is not None:
            self._loop.close()
