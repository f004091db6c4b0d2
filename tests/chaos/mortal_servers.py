"""Runs servers without transport on one store, which end at any write as by a kill."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from tests.service.stores.stopping_files import Stopped, StoppingFiles

from statewise.service import Settings
from statewise.service.assembly import build_dataplane
from statewise.service.dataplane.durability import StoreThread
from statewise.service.stores.redis import RedisOptions, RedisStore
from statewise.service.stores.sqlite import SqliteStore

IDLE_TIMEOUT_S = 60.0
FAR = 1 << 60
"""More changes than there are: the process does not end."""
CHANGES = ("write", "claim", "end", "expire")


class Mortal(Protocol):
    """A store whose process ends after so many changes."""

    left: int
    stopped: bool


class MortalSqlite(SqliteStore):
    """A store in small files; a change is one of the disk."""

    def __init__(self, path: Path, files: StoppingFiles) -> None:
        self.stopping = files
        super().__init__(path, log_bytes=20_000, segment_bytes=5_000, files=files)

    def close(self) -> None:
        """Closes the store, or what a killed process had open."""
        if self.stopping.stopped:
            self.stopping.end()
        else:
            super().close()


class MortalRedis:
    """A store whose changes are calls."""

    def __init__(self, store: RedisStore, *, done_first: bool) -> None:
        self._store = store
        self._done_first = done_first
        self.left = FAR
        self.stopped = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        return partial(self._change, method) if name in CHANGES else method

    def _change(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if self.stopped:
            raise Stopped
        self.left -= 1
        self.stopped = self.left < 0
        if self.stopped and self._done_first:
            method(*arguments, **options)
        if self.stopped:
            raise Stopped
        return method(*arguments, **options)


class Clock:
    """Seconds that pass when a program says so."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class MortalServer:
    """A server of one repository, from its start to its end.

    Args:
        repository: The models.
        place: Path of a database, or options of a Redis server.
        durability: Of the server.
        done_first: Whether the change at which the process ends happens.
    """

    def __init__(
        self, repository: Path, place: Path | RedisOptions, *, durability: str, done_first: bool
    ) -> None:
        self.clock = Clock()
        self._executor = ThreadPoolExecutor(1)
        self._store = StoreThread(partial(self._open, place, done_first))
        settings: dict[str, Any] = {
            "repository": repository,
            "load_in_child": False,
            "load_test_s": 0.0,
            "idle_timeout_s": IDLE_TIMEOUT_S,
            "store": "sqlite:given",  # in truth the thread's
            "durability": durability,
            "checkpoint_s": 1000.0,
        }
        self.dataplane = build_dataplane(
            Settings(**settings), executor=self._executor, clock=self.clock, store=self._store
        )
        stored = self.dataplane.sessions.stored
        assert stored is not None
        self._stored = stored
        self._running: asyncio.Task[None] | None = None

    def _open(self, place: Path | RedisOptions, done_first: bool) -> Any:
        if isinstance(place, Path):
            files = StoppingFiles(FAR, done_first=done_first)
            self.mortal: Mortal = files
            return MortalSqlite(place, files)
        mortal = MortalRedis(RedisStore.open(place), done_first=done_first)
        self.mortal = mortal
        return mortal

    async def start(self) -> None:
        """Loads the models. Checkpoints are made when replies wait for them, or when asked for."""
        await self.dataplane.models.load_all()
        self._running = asyncio.create_task(self._stored.checkpoints.run())

    async def checkpoint(self) -> bool:
        """Writes what has changed; returns whether the store has it."""
        return await self._stored.checkpoints.tick()

    async def tidy(self) -> None:
        """Folds what the store has put off."""
        await self._store.call(partial(self._store.store.tidy, seconds=5.0))

    async def unless_killed(self, answer: "asyncio.Future[Any]") -> Any:
        """Waits for an answer; raises Stopped if the process ends before."""
        assert self._running is not None
        await asyncio.wait([answer, self._running], return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        raise Stopped

    async def end(self, *, killed: bool) -> None:
        """Ends the server: as by SIGTERM, or as by a kill."""
        assert self._running is not None
        self._running.cancel()
        await asyncio.wait([self._running])
        if killed:
            self.mortal.stopped = True
        with suppress(Stopped):
            await (self._store.close() if killed else self._stored.close())
        await self.dataplane.models.close()
        self._executor.shutdown()
