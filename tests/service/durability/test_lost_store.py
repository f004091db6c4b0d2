"""Empties a Redis server while servers use it: they write the sessions that they have in memory anew."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.helpers.models.small import SmallModels
from tests.service.durability.stored_server import serving
from tests.service.stores.redis_server import RedisServer, redis_server

from statewise.service import ServiceError
from statewise.service.stores import Store
from statewise.service.stores.redis import RedisStore


class Place:
    """A Redis server, and writers of it."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def open_store(self) -> Store:
        """Opens a writer."""
        return RedisStore.open(self._server.options())

    def empty(self) -> None:
        """Removes all that the server has."""
        with self._server.client() as client:
            client.flushall()


@pytest.fixture
def place() -> Iterator[Place]:
    """A place that can be emptied."""
    with redis_server() as server:
        yield Place(server)


async def test_sessions_in_memory_are_written_anew_and_the_others_are_lost(
    repository: Path,
    place: Place,
    small_models: SmallModels,
    random: np.random.Generator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    x = random.standard_normal((6, 3)).astype(np.float32)
    whole = small_models.find("steps").run(x)[0]
    ids = [f"{number}" for number in range(1500)]  # more than one portion
    async with serving(repository, place.open_store) as one:
        handles = await one.open("asleep", *ids)
        await one.step(handles["7"], 0, x[:2])
        await one.sleep(*(handles[name] for name in ids))
        place.empty()
        with caplog.at_level(logging.WARNING):
            result = await one.step(handles["7"], 2, x[2:4])  # it goes on
            assert not await one.stored.checkpoints.tick()
            assert sum(one.dataplane.idle_expiry.expire()) == 0  # no store has what is in memory
            with pytest.raises(ServiceError, match="store is damaged"):
                await one.resume("asleep")
            assert await one.stored.checkpoints.tick()
        assert result.outputs["y"].tobytes() == whole[2:4].tobytes()
        assert caplog.text.count("came back empty: 1500 sessions in memory are written to it anew") == 1
        assert one.stored.checkpoints.counts.losses == 1
        assert (await one.step(handles["7"], 2, x[2:4])).durable_positions.tolist() == [4]  # type: ignore[union-attr]

    async with serving(repository, place.open_store) as other:
        resumed, failures = await other.dataplane.sessions.resume(["7", "8", "asleep"], owner="ann")
        assert [(one.view.session_id, one.view.position) for one in resumed] == [("7", 4), ("8", 0)]
        assert [(failure.row, failure.reason) for failure in failures] == [(2, "SESSION_NOT_FOUND")]
        result = await other.step(resumed[0].view.handle, 4, x[4:])
        assert result.outputs["y"].tobytes() == whole[4:].tobytes()


async def test_an_id_that_was_given_away_meanwhile_stays_so(repository: Path, place: Place) -> None:
    x = np.ones((1, 3), np.float32)
    async with serving(repository, place.open_store) as stale, serving(repository, place.open_store) as other:
        old, own = await stale.open("a", "b"), await other.open("c")
        await stale.stored.settle()
        await other.stored.settle()
        place.empty()
        await other.step(own["c"], 0, x)
        assert not await other.stored.checkpoints.tick()
        assert await other.stored.checkpoints.tick()
        (fresh,), _ = await other.dataplane.sessions.open("steps", 0, ["a"], owner="ann")
        await other.stored.settle()
        assert fresh.created

        await stale.step(old["b"], 0, x)
        assert not await stale.stored.checkpoints.tick()
        assert await stale.stored.checkpoints.tick()
        moved = await stale.step(old["a"], 0, x)
        assert [failure.reason for failure in moved.failures] == ["SESSION_MOVED"]
        assert not (await stale.step(old["b"], 1, x)).failures
        assert not (await other.step(fresh.view.handle, 0, x)).failures
        await other.stored.settle()
        (resumed,), _ = await stale.dataplane.sessions.resume(["a"], owner="ann")
        assert (resumed.view.birth, resumed.view.position) == (fresh.view.birth, 1)


async def test_a_server_that_was_away_while_sessions_moved_does_not_get_them_back(
    repository: Path, place: Place, random: np.random.Generator
) -> None:
    x = random.standard_normal((4, 3)).astype(np.float32)
    for stale_first in (True, False):
        async with (
            serving(repository, place.open_store) as stale,
            serving(repository, place.open_store) as taker,
        ):
            old = (await stale.open("a"))["a"]
            await stale.stored.settle()
            new = (await taker.resume("a"))["a"]
            place.empty()
            await taker.step(new, 0, x[:2])
            await stale.step(old, 0, -x[:1])
            for server in (stale, taker) if stale_first else (taker, stale):
                assert not await server.stored.checkpoints.tick()
                assert await server.stored.checkpoints.tick()
            await stale.step(old, 1, x[:1])
            assert await stale.stored.checkpoints.tick()
            assert [one.reason for one in (await stale.step(old, 2, x[:1])).failures] == ["SESSION_MOVED"]
            assert not (await taker.step(new, 2, x[2:])).failures
            await taker.close(new)
