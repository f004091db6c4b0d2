"""Stores named checkpoints with their session: they leave memory, wake and end with it."""

from pathlib import Path

import numpy as np
import pytest
from tests.service.durability.stored_server import StoredServer, serving
from tests.service.stores.places import Open

from statewise.service.dataplane import SessionCheckpoints
from statewise.service.dataplane.sessions import OpenedSession
from statewise.service.stores import StoredCheckpoint, Usage
from statewise.wire import Reason

Array = np.ndarray


def u64(*numbers: int) -> Array:
    return np.array(numbers, np.uint64)


def operations(server: StoredServer) -> SessionCheckpoints:
    """The server's operations on checkpoints."""
    return SessionCheckpoints.beside(server.dataplane.sessions)


async def made(server: StoredServer, handle: int, name: str) -> StoredCheckpoint:
    """Makes a checkpoint."""
    (checkpoint,), failures = await operations(server).create(u64(handle), [name], None, owner="ann")
    assert failures == []
    return checkpoint


async def gone(server: StoredServer, handle: int, name: str) -> OpenedSession:
    """Takes a session back to a checkpoint."""
    (session,), failures = await operations(server).go_to(u64(handle), [name], None, owner="ann")
    assert failures == []
    return session


async def listed(server: StoredServer, handle: int) -> list[StoredCheckpoint]:
    """The checkpoints of a session."""
    (checkpoints,), failures = await operations(server).list_all(u64(handle), owner="ann")
    assert failures == []
    return list(checkpoints)


async def usage(server: StoredServer) -> Usage:
    """What the store has."""
    found: Usage = await server.stored.store.ask(server.stored.store.store.usage)
    return found


async def test_checkpoints_sleep_and_wake_with_their_session(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store) as server:
        handle = (await server.open("a", keep=2))["a"]
        await server.step(handle, 0, x[:4])
        early = await made(server, handle, "early")
        await server.step(handle, 4, x[4:6])
        late = await made(server, handle, "late")
        await server.step(handle, 6, x[6:8])
        await server.sleep()
        assert await listed(server, handle) == [early, late]
        await server.sleep()
        found = await server.dataplane.session_administration.get("a", owner="ann")
        assert (found.state, list(found.checkpoints)) == ("asleep", [early, late])
        assert (await gone(server, handle, "early")).view.position == 4
        await server.sleep()
        y = (await server.step(handle, 4, x[4:])).outputs["y"]
        assert y.tobytes() == expected[4:].tobytes()
        assert await operations(server).delete(u64(handle), ["late"], owner="ann") == []
        await server.sleep()
        assert await listed(server, handle) == [early]


async def test_another_server_takes_checkpoints_over(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store) as first, serving(repository, open_store) as second:
        old = (await first.open("a"))["a"]
        await first.step(old, 0, x[:5])
        checkpoint = await made(first, old, "p")
        await first.step(old, 5, x[5:])
        await first.stored.settle()
        handle = (await second.resume("a"))["a"]
        assert await listed(second, handle) == [checkpoint]
        session = await gone(second, handle, "p")
        assert session.view.position == 5
        y = (await second.step(handle, 5, x[5:])).outputs["y"]
        assert y.tobytes() == expected[5:].tobytes()
        _, (failure,) = await operations(first).create(u64(old), ["late"], None, owner="ann")
        assert failure.reason is Reason.SESSION_MOVED
        assert [one.name for one in await listed(second, handle)] == ["p"]


async def test_checkpoints_count_in_the_store_and_end_with_their_session(
    repository: Path, open_store: Open, x: Array
) -> None:
    async with serving(repository, open_store, owner_store_bytes=10**9) as server:
        handle = (await server.open("a"))["a"]
        await server.stored.settle()
        plain = await usage(server)
        checkpoint = await made(server, handle, "p")
        assert (await usage(server)).stored_bytes == plain.stored_bytes + checkpoint.size_bytes
        await server.sleep()
        await server.step(handle, 0, x[:1])
        assert server.dataplane.models.find("steps").kept.checkpoints.used_bytes == checkpoint.size_bytes
        await server.close(handle)
        assert (await usage(server)) == Usage(0, 0)
        assert server.dataplane.models.find("steps").kept.used_bytes == 0


@pytest.mark.parametrize("limit", ["owner_store_bytes", "store_bytes"])
async def test_checkpoints_without_room_in_the_store_are_refused(
    repository: Path, open_store: Open, limit: str
) -> None:
    async with serving(repository, open_store) as server:
        handle = (await server.open("a"))["a"]
        size = (await made(server, handle, "p")).size_bytes
        held = (await usage(server)).stored_bytes
        await server.close(handle)
    async with serving(repository, open_store, **{limit: held + size - 1}) as server:
        handle = (await server.open("a"))["a"]
        await made(server, handle, "p")
        _, (failure,) = await operations(server).create(u64(handle), ["q"], None, owner="ann")
        assert failure.reason is Reason.BYTES_LIMIT
        assert await operations(server).delete(u64(handle), ["p"], owner="ann") == []
        await made(server, handle, "q")


async def test_idle_sessions_make_room_for_checkpoints(repository: Path, open_store: Open, x: Array) -> None:
    async with serving(repository, open_store) as server:
        copies = server.dataplane.models.find("steps").arena.bytes_per_session
    async with serving(repository, open_store, state_bytes=3 * copies) as server:
        handles = await server.open("a", "b", "c")
        for handle in handles.values():
            await server.step(handle, 0, x[:1])
        server.now_s += 1
        await server.step(handles["a"], 1, x[1:2])
        await made(server, handles["a"], "p")
        assert server.dataplane.models.find("steps").kept.used_bytes <= 3 * copies
        await server.step(handles["b"], 1, x[1:2])
        assert [one.name for one in await listed(server, handles["a"])] == ["p"]


async def test_checkpoints_that_the_store_did_not_take_are_written_later(
    repository: Path, open_store: Open, x: Array
) -> None:
    async with serving(repository, open_store) as server:
        handle = (await server.open("a"))["a"]
        await server.stored.settle()
        server.store.refused = {"write"}
        with pytest.raises(Exception, match="store"):
            await made(server, handle, "p")
        server.store.refused = set()
        checkpoint = await made(server, handle, "p")
        (stored,) = open_store().read([checkpoint.birth])
        assert stored is not None
        assert list(stored.checkpoints) == [checkpoint]
