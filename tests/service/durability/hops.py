"""Lets a session leave the memory that it is in: it sleeps, moves to another server, or its server ends."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.service.durability.stored_server import StoredServer, serving
from tests.service.stores.places import Open

Hop = Callable[[int], Awaitable[tuple[StoredServer, int]]]
"""Lets the session with a handle leave memory; returns who has it then, and its handle."""
HOPS = ("sleeps", "moves", "is killed")


@asynccontextmanager
async def hopping(repository: Path, open_store: Open, how: str) -> AsyncIterator[tuple[StoredServer, Hop]]:
    """A server, and how its session `a` leaves it; later servers go on with it."""
    async with AsyncExitStack() as running:
        now = [await running.enter_async_context(serving(repository, open_store))]

        async def hop(handle: int) -> tuple[StoredServer, int]:
            if how == "sleeps":
                await now[-1].sleep()
                return now[-1], handle
            await now[-1].stored.settle()
            if how == "is killed":
                await running.aclose()
            now.append(await running.enter_async_context(serving(repository, open_store)))
            return now[-1], (await now[-1].resume("a"))["a"]

        yield now[0], hop
