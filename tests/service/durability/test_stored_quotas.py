"""Bounds what the store keeps: sessions that are asleep count, on this server and on others."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from tests.service.durability.stored_server import StoredServer, serving
from tests.service.stores.places import Open

from statewise.service.session_state import ALL_OWNERS, StoredQuotas
from statewise.wire import Reason

X = np.ones((3, 3), np.float32)


async def _refused(server: StoredServer, *ids: str, owner: str = "ann") -> list[Reason]:
    _, failures = await server.dataplane.sessions.open("steps", 0, ids, owner=owner)
    return [failure.reason for failure in failures]


async def test_sessions_of_an_owner_count_while_they_sleep(repository: Path, open_store: Open) -> None:
    async with serving(repository, open_store, owner_sessions=3) as server:
        handles = await server.open("a", "b")
        await server.sleep()
        assert await _refused(server, "c", "d") == [Reason.SESSION_LIMIT]
        assert await _refused(server, "d", owner="bob") == []
        handles = await server.resume("a", "b")  # waking opens none
        await server.sleep()
        assert await _refused(server, "d") == [Reason.SESSION_LIMIT]
        await server.close(handles["a"])
        assert await _refused(server, "d", "e") == [Reason.SESSION_LIMIT]
        await server.stored.settle()
    async with serving(repository, open_store, owner_sessions=3) as server:
        assert await _refused(server, "f") == [Reason.SESSION_LIMIT]
        await server.dataplane.session_administration.close("b", owner="ann")
        assert await _refused(server, "f", "g") == [Reason.SESSION_LIMIT]


async def test_servers_of_one_store_count_together(repository: Path, open_store: Open) -> None:
    async with (
        serving(repository, open_store, owner_sessions=4) as one,
        serving(repository, open_store, owner_sessions=4) as other,
    ):
        await one.open("a", "b")
        await other.open("c")
        await one.stored.settle()
        assert await _refused(other, "d", "e") == []  # its numbers are seconds old
        await other.stored.settle()
        for server in (one, other):
            server.now_s += 11
            assert await _refused(server, "f") == [Reason.SESSION_LIMIT]


@pytest.mark.parametrize("setting", ["store_bytes", "owner_store_bytes"])
async def test_no_session_comes_beyond_the_bytes_of_the_store(
    repository: Path, open_store: Open, setting: str
) -> None:
    async with serving(repository, open_store) as server:
        await server.open("a")
        await server.stored.settle()
        size = server.store.usage().stored_bytes
    async with serving(repository, open_store, snapshot_key="k" * 16, **{setting: 3 * size}) as server:
        handles = await server.open("b", "c")
        (token,), _ = await server.dataplane.sessions.snapshot(
            np.array([handles["b"]], np.uint64), owner="ann"
        )
        await server.sleep()
        handles = await server.resume("a", "b", "c")
        forked = server.dataplane.sessions.fork(np.array([handles["a"]], np.uint64), ["d"], owner="ann")
        restored = server.dataplane.sessions.restore([token], ["d"], owner="ann")
        for _, (failure,) in (await forked, await restored):
            assert failure.reason == Reason.BYTES_LIMIT
        assert await _refused(server, "d") == [Reason.BYTES_LIMIT]
        others = await _refused(server, "d", owner="bob")
        assert others == ([Reason.BYTES_LIMIT] if setting == "store_bytes" else [])
        assert not (await server.step(handles["a"], 0, X)).failures  # what exists goes on
        await server.close(handles["c"])
        assert await _refused(server, "d") == []


async def test_what_expires_in_the_store_counts_no_more(repository: Path, open_store: Open) -> None:
    async with serving(repository, open_store, owner_sessions=2) as server:
        await server.open("a", "b")
        await server.sleep()
        assert await _refused(server, "c") == [Reason.SESSION_LIMIT]
        assert len(server.store.expire(used_before_ms=2**62, limit=9)) == 2
        assert await _refused(server, "c", "d", "e") == [Reason.SESSION_LIMIT]


async def test_numbers_are_asked_for_when_they_are_old_or_leave_no_room(
    repository: Path, open_store: Open
) -> None:
    async with serving(repository, open_store, owner_sessions=3) as server:
        asked = server.store.calls
        await server.open("a")
        await server.open("b")
        assert asked.count(("usage", ("ann",))) == 1
        server.now_s += 11
        await server.open("c")
        assert asked.count(("usage", ("ann",))) == 2
        assert await _refused(server, "d") == [Reason.SESSION_LIMIT]
        assert asked.count(("usage", ("ann",))) == 3


async def test_requests_that_ask_at_the_same_time_count_once(repository: Path, open_store: Open) -> None:
    async with serving(repository, open_store) as server:
        await server.open("a", "b", "c")
        await server.sleep()
    async with serving(repository, open_store, owner_sessions=7) as server:
        names = [f"d{number}" for number in range(8)]
        refused = await asyncio.gather(*(_refused(server, name) for name in names))
        assert sorted(map(len, refused)) == [0] * 4 + [1] * 4
        refused = await asyncio.gather(*(_refused(server, name) for name in names))
        assert sorted(map(len, refused)) == [0] * 4 + [1] * 4


def test_quotas_count_each_owner_and_all() -> None:
    quotas = StoredQuotas(owner_sessions=None, owner_bytes=None, store_bytes=None)
    assert not quotas.has_limits
    quotas.take(1, 100)
    quotas.take(2, 50)
    quotas.give_back(1, 100)
    assert [quotas.held(owner) for owner in (1, 2, ALL_OWNERS)] == [(0, 0), (1, 50), (1, 50)]
