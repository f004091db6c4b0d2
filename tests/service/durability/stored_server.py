"""Runs a server's behaviour with a store, on a clock that passes when a test says so."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from tests.service.stores.places import Open

from statewise.service import ServiceError, Settings
from statewise.service.assembly import build_dataplane
from statewise.service.base import RowFailure, StepResult
from statewise.service.dataplane import Dataplane, ListedSession, PageStart
from statewise.service.dataplane.durability import StoreThread
from statewise.service.dataplane.sessions import StoredSessions
from statewise.service.stores import Store, StoreUnavailable

IDLE_S = 60.0


class WatchedStore:
    """A store that notes calls, and whose disk is full for those that a test names."""

    def __init__(self, store: Store) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.refused: set[str] = set()
        self.entered = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, arguments))
            self.entered.set()
            self.may_go_on.wait()
            if name in self.refused:
                raise StoreUnavailable("the disk is full")
            return method(*arguments, **options)

        return call


class StoredServer:
    """A dataplane with a store. Ticks and expiry happen when a test says so."""

    def __init__(self, dataplane: Dataplane, store: WatchedStore) -> None:
        self.dataplane = dataplane
        self.store = store
        self.now_s = 100.0

    @property
    def stored(self) -> StoredSessions:
        """The sessions of the store."""
        found = self.dataplane.sessions.stored
        assert found is not None
        return found

    async def open(
        self, *ids: str, owner: str = "ann", model: str = "steps", **chosen: Any
    ) -> dict[str, int]:
        """Opens sessions. Returns handles by id."""
        opened, failures = await self.dataplane.sessions.open(model, 0, ids, owner=owner, **chosen)
        assert failures == []
        return {one.view.session_id: one.view.handle for one in opened}

    async def resume(self, *ids: str, owner: str = "ann") -> dict[str, int]:
        """Resumes sessions. Returns handles by id."""
        resumed, failures = await self.dataplane.sessions.resume(ids, owner=owner)
        assert failures == []
        return {one.view.session_id: one.view.handle for one in resumed}

    async def close(self, *handles: int, owner: str = "ann") -> list[RowFailure]:
        """Closes sessions by handle."""
        return await self.dataplane.sessions.close(np.array(handles, np.uint64), owner=owner)

    async def step(self, handle: int, position: int, x: np.ndarray, *, owner: str = "ann") -> StepResult:
        """Steps one session."""
        answer: asyncio.Future[StepResult | ServiceError] = asyncio.get_running_loop().create_future()
        self.dataplane.step(
            np.array([handle], np.uint64),
            np.array([position], np.uint64),
            np.array([len(x)], np.uint32),
            {"x": x},
            owner=owner,
            deadline_s=None,
            reply=answer.set_result,
        )
        result = await answer
        assert isinstance(result, StepResult)
        return result

    async def sleep(self, *awake: int) -> None:
        """Lets all sessions fall asleep but those of some handles."""
        self.now_s += IDLE_S + 1
        table = self.dataplane.table
        table.touch(table.slots_of(np.array(awake, np.uint64)))
        await self.stored.settle()
        assert sum(self.dataplane.idle_expiry.expire()) >= 0
        assert len(table) == len(awake)

    async def pages(
        self, *, size: int, owner: str | None = None, **chosen: Any
    ) -> AsyncIterator[list[ListedSession]]:
        """Yields the pages of a listing."""
        start: PageStart | None = None
        while True:
            page, start = await self.dataplane.session_administration.listing.page(
                owner=owner, start=start, size=size, model=chosen.get("model", ""), state=chosen.get("state")
            )
            assert len(page) <= size
            yield page
            if start is None:
                return

    async def listed(
        self, *, size: int = 1000, owner: str | None = None, **chosen: Any
    ) -> list[ListedSession]:
        """Returns all sessions of a listing."""
        return [one async for page in self.pages(size=size, owner=owner, **chosen) for one in page]


def stepping(
    server: StoredServer, handles: Sequence[int], position: int, steps: Sequence[int], x: np.ndarray
) -> "asyncio.Future[StepResult]":
    """Begins a step of sessions that stand at one position."""
    answer: asyncio.Future[StepResult] = asyncio.get_running_loop().create_future()

    def take(result: StepResult | ServiceError) -> None:
        assert isinstance(result, StepResult)
        answer.set_result(result)

    server.dataplane.step(
        np.array(handles, np.uint64),
        np.full(len(handles), position, np.uint64),
        np.array(steps, np.uint32),
        {"x": x},
        owner="ann",
        deadline_s=None,
        reply=take,
    )
    return answer


def names_of(listed: Iterable[ListedSession]) -> Sequence[str]:
    """Returns the ids, in the order of the listing."""
    return [one.session_id for one in listed]


@asynccontextmanager
async def serving(repository: Path, open_store: Open, **settings: Any) -> AsyncIterator[StoredServer]:
    """A server's behaviour with a store, which ends without a last write, as by the end of the process."""
    thread = StoreThread(lambda: cast("Store", WatchedStore(open_store())))
    try:
        with ThreadPoolExecutor(1) as executor:
            settings = {
                "store": "sqlite:given",
                "idle_timeout_s": IDLE_S,
                **settings,
            }  # the thread's, in truth
            chosen = Settings(repository=repository, load_in_child=False, **settings)
            dataplane = build_dataplane(chosen, executor=executor, clock=lambda: server.now_s, store=thread)
            server = StoredServer(dataplane, cast("WatchedStore", thread.store))
            await dataplane.models.load_all()
            yield server
    finally:
        await thread.close()
