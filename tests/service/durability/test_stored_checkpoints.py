"""Keeps states under names: they are where their session is, whatever becomes of it and of its servers."""

from pathlib import Path

import numpy as np
import pytest
from tests.service.durability.hops import HOPS, hopping
from tests.service.durability.stored_server import StoredServer, serving, stepping
from tests.service.stores.places import Open
from tests.service.stores.redis_server import redis_server

from statewise.service import ServiceError
from statewise.service.base import StoredCheckpoint
from statewise.service.dataplane import SessionCheckpoints
from statewise.service.stores import Store
from statewise.service.stores.redis import RedisStore
from statewise.wire import Reason

Array = np.ndarray


def u64(*numbers: int) -> Array:
    return np.array(numbers, np.uint64)


def checkpoints_of(server: StoredServer) -> SessionCheckpoints:
    """Operations on named checkpoints."""
    return SessionCheckpoints.beside(server.dataplane.sessions)


async def make(server: StoredServer, handle: int, *names: str) -> list[StoredCheckpoint]:
    """Keeps the present state of a session under names."""
    made: list[StoredCheckpoint] = []
    for name in names:
        one, failures = await checkpoints_of(server).create(u64(handle), [name], None, owner="ann")
        assert failures == []
        made += one
    return made


async def listed(server: StoredServer, handle: int) -> list[StoredCheckpoint]:
    """The named checkpoints of a session."""
    (found,), failures = await checkpoints_of(server).list_all(u64(handle), owner="ann")
    assert failures == []
    return list(found)


async def delete(server: StoredServer, handle: int, name: str) -> None:
    """Drops a named checkpoint."""
    assert await checkpoints_of(server).delete(u64(handle), [name], owner="ann") == []


async def go_to(server: StoredServer, handle: int, name: str) -> int:
    """Takes a session to a named checkpoint; returns where it stands."""
    (gone,), failures = await checkpoints_of(server).go_to(u64(handle), [name], None, owner="ann")
    assert failures == []
    return gone.view.position


@pytest.mark.parametrize("how", HOPS)
async def test_checkpoints_come_with_their_session_wherever_it_is(
    repository: Path, open_store: Open, x: Array, expected: Array, how: str
) -> None:
    async with hopping(repository, open_store, how) as (server, hop):
        handle = (await server.open("a"))["a"]
        kept = await make(server, handle, "begin")
        await server.step(handle, 0, x[:5])
        server, handle = await hop(handle)
        kept += await make(server, handle, "five", "five again", "gone")
        await server.step(handle, 5, x[5:9])
        server, handle = await hop(handle)
        await delete(server, handle, "gone")
        kept += await make(server, handle, "nine", "gone")
        kept = [one for one in kept if one.name != "gone" or one.position == 9]
        assert [one.position for one in kept] == [0, 5, 5, 9, 9]
        for name, position in (("five", 5), ("nine", 9), ("begin", 0), ("five again", 5)):
            server, handle = await hop(handle)
            assert await listed(server, handle) == kept
            assert await go_to(server, handle, name) == position
            server, handle = await hop(handle)
            result = await server.step(handle, position, x[position:])
            assert result.outputs["y"].tobytes() == expected[position:].tobytes()
        await server.close(handle)
        assert server.store.usage().stored_bytes == 0


async def test_what_a_reply_told_is_there_after_a_kill(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store) as server:
        handle = (await server.open("a"))["a"]
        await server.step(handle, 0, x[:4])
        made = await make(server, handle, "four", "dropped")
        await delete(server, handle, "dropped")
        await server.step(handle, 4, x[4:])
    async with serving(repository, open_store) as server:
        handle = (await server.resume("a"))["a"]
        assert await listed(server, handle) == made[:1]
        assert await go_to(server, handle, "four") == 4
    async with serving(repository, open_store) as server:
        handle = (await server.resume("a"))["a"]
        result = await server.step(handle, 4, x[4:])
        assert result.outputs["y"].tobytes() == expected[4:].tobytes()


async def test_a_server_that_lost_a_session_keeps_nothing_of_it(
    repository: Path, open_store: Open, x: Array
) -> None:
    async with serving(repository, open_store) as stale, serving(repository, open_store) as owner:
        handle = (await stale.open("a"))["a"]
        kept = await make(stale, handle, "one", "two")
        moved = (await owner.resume("a"))["a"]
        made, failures = await checkpoints_of(stale).create(u64(handle), ["late"], None, owner="ann")
        assert (made, [one.reason for one in failures]) == ([], [Reason.SESSION_MOVED])
        assert await listed(owner, moved) == kept
        await owner.step(moved, 0, x[:1])
        back = (await stale.resume("a"))["a"]
        failures = await checkpoints_of(owner).delete(u64(moved), ["one"], owner="ann")
        assert [one.reason for one in failures] == [Reason.SESSION_MOVED]
        assert await listed(stale, back) == kept


async def test_a_store_that_is_away_gets_what_was_made_and_dropped_meanwhile(
    repository: Path, open_store: Open, x: Array
) -> None:
    async with serving(repository, open_store) as server:
        handle = (await server.open("a"))["a"]
        await make(server, handle, "old", "older")
        server.store.refused = {"write"}
        for name in ("new", "newer"):
            with pytest.raises(ServiceError) as error:
                await make(server, handle, name)
            assert error.value.reason is Reason.STORE_UNAVAILABLE
        for name in ("old", "newer"):
            with pytest.raises(ServiceError) as error:
                await delete(server, handle, name)
            assert error.value.reason is Reason.STORE_UNAVAILABLE
        server.now_s += 1000
        assert sum(server.dataplane.idle_expiry.expire()) == 0  # it does not leave memory
        server.store.refused = set()
        (again,) = await make(server, handle, "new")  # as its client does
        names = [one.name for one in await listed(server, handle)]
        assert names == ["older", "new"]
    async with serving(repository, open_store) as server:
        handle = (await server.resume("a"))["a"]
        assert [one.name for one in await listed(server, handle)] == names
        assert (await listed(server, handle))[-1] == again


async def test_a_store_that_lost_everything_gets_the_checkpoints_again(repository: Path, x: Array) -> None:
    with redis_server() as redis:
        async with serving(repository, lambda: RedisStore.open(redis.options())) as server:
            handles = await server.open("a", "b", "c")
            kept = {name: await make(server, handle, "x", f"y{name}") for name, handle in handles.items()}
            with redis.client() as client:
                client.flushall()
            await server.step(handles["a"], 0, x[:1])
            assert not await server.stored.checkpoints.tick()
            assert await server.stored.checkpoints.tick()
            await server.close(handles["c"])
        async with serving(repository, lambda: RedisStore.open(redis.options())) as server:
            for name in "ab":
                handle = (await server.resume(name))[name]
                assert await listed(server, handle) == kept[name]


async def test_large_sessions_wake_one_after_another(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    """No more of them is read at once than a call of the store returns."""

    def open_small() -> Store:
        store = open_store()
        store.read_bytes = 1
        return store

    names = [f"s{number}" for number in range(9)]
    async with serving(repository, open_small) as server:
        handles = await server.open(*names)
        for handle in handles.values():
            await make(server, handle, "begin")
        await server.sleep()
        result = await stepping(server, [*handles.values()], 0, [1] * 9, np.repeat(x[:1], 9, axis=0))
        assert not result.failures
        assert result.outputs["y"].tobytes() == np.repeat(expected[:1], 9, axis=0).tobytes()
        await server.stored.settle()
    async with serving(repository, open_small) as server:
        for handle in (await server.resume(*names)).values():
            assert await go_to(server, handle, "begin") == 0
