"""Stores the states from before a session's last requests with the session, and counts their bytes."""

from pathlib import Path

import numpy as np
import pytest
from tests.service.durability.stored_server import StoredServer, serving
from tests.service.stores.places import Open

from statewise.service import ServiceError
from statewise.service.dataplane.sessions import OpenedSession
from statewise.service.stores import bytes_in_store
from statewise.wire import Reason

Array = np.ndarray


def u64(*numbers: int) -> Array:
    return np.array(numbers, np.uint64)


async def rewound(server: StoredServer, handle: int, position: int) -> OpenedSession:
    """Takes a session back."""
    (session,), failures = await server.dataplane.sessions.rewind(u64(handle), u64(position), owner="ann")
    assert failures == []
    return session


async def test_kept_requests_sleep_and_wake_with_their_session(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store) as server:
        handles = await server.open("a", keep=4)
        plain = (await server.open("plain"))["plain"]
        handle = handles["a"]
        for position in range(9):
            await server.step(handle, position, x[position : position + 1])
            await server.step(plain, position, x[position : position + 1])
        await server.sleep()
        (listed,) = [one for one in await server.listed() if one.session_id == "a"]
        assert (listed.state, listed.keep) == ("asleep", 4)
        session = await rewound(server, handle, 6)
        assert (session.keep, list(session.kept_positions)) == (4, [5])
        y = (await server.step(handle, 6, x[6:7])).outputs["y"]
        await server.sleep()
        retried = (await server.step(handle, 6, x[6:7])).outputs["y"]
        assert y.tobytes() == retried.tobytes() == expected[6:7].tobytes()
        for position in range(7, 12):
            await server.step(handle, position, x[position : position + 1])
        session = await rewound(server, handle, 9)
        assert list(session.kept_positions) == [8]
        await server.sleep()
        for position in range(9, 12):
            y = (await server.step(handle, position, x[position : position + 1])).outputs["y"]
            assert y.tobytes() == expected[position : position + 1].tobytes()
        session = await rewound(server, handle, 8)
        assert list(session.kept_positions) == []


async def test_another_server_takes_kept_requests_over(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store) as first:
        handle = (await first.open("a", keep=3))["a"]
        for position in range(6):
            await first.step(handle, position, x[position : position + 1])
        await first.stored.settle()
    async with serving(repository, open_store) as second:
        handle = (await second.resume("a"))["a"]
        session = await rewound(second, handle, 3)
        assert list(session.kept_positions) == []
        y = (await second.step(handle, 3, x[3:])).outputs["y"]
        assert y.tobytes() == expected[3:].tobytes()


async def test_kept_requests_count_in_memory_and_in_the_store(
    repository: Path, open_store: Open, x: Array
) -> None:
    async with serving(repository, open_store, owner_store_bytes=10**9) as server:
        model = server.dataplane.models.find("steps")
        copies = model.arena.bytes_per_session
        of_eight = copies + 7 * (copies // 2 + 8)
        handles = [*(await server.open("a", "b", keep=8)).values(), *(await server.open("c")).values()]
        assert model.kept.used_bytes == 2 * of_eight + copies
        await server.stored.settle()
        usage = await server.stored.store.ask(server.stored.store.store.usage)
        assert usage.stored_bytes == 2 * bytes_in_store(of_eight) + bytes_in_store(copies)
        await server.sleep()
        assert model.kept.used_bytes == 0
        await server.step(handles[0], 0, x[:1])
        assert model.kept.used_bytes == of_eight
        await server.close(*handles)
        assert model.kept.used_bytes == 0
        assert (await server.stored.store.ask(server.stored.store.store.usage)).stored_bytes == 0


@pytest.mark.parametrize("limit", ["state_bytes", "owner_state_bytes", "owner_store_bytes", "store_bytes"])
async def test_a_session_that_keeps_too_much_is_refused(
    repository: Path, open_store: Open, limit: str
) -> None:
    async with serving(repository, open_store) as server:
        size = server.dataplane.models.find("steps").kept.session_bytes(3)
    if limit.endswith("store_bytes"):
        size = bytes_in_store(size)
    async with serving(repository, open_store, **{limit: 2 * size - 1}) as server:
        (opened,), (failure,) = await server.dataplane.sessions.open(
            "steps", 0, ["small", "large"], owner="ann", keep=3
        )
        assert opened.view.session_id == "small"
        assert failure.reason is Reason.BYTES_LIMIT
        _, (failure,) = await server.dataplane.sessions.open("steps", 0, ["more"], owner="ann", keep=64)
        assert failure.reason is Reason.BYTES_LIMIT


async def test_a_row_of_another_width_is_lost_and_not_misread(
    repository: Path, open_store: Open, x: Array
) -> None:
    async with serving(repository, open_store) as server:
        model = server.dataplane.models.find("steps")
        copies = model.arena.bytes_per_session
        assert model.kept.keep_of_bytes(copies) == 1
        assert model.kept.keep_of_bytes(model.kept.session_bytes(64)) == 64
        assert [model.kept.keep_of_bytes(copies + 1), model.kept.keep_of_bytes(copies - 1)] == [None, None]


async def test_memory_for_what_sessions_keep_is_made_by_idle_ones(
    repository: Path, open_store: Open, x: Array
) -> None:
    async with serving(repository, open_store) as server:
        size = server.dataplane.models.find("steps").kept.session_bytes(8)
    async with serving(repository, open_store, state_bytes=2 * size) as server:
        handles = await server.open("a", "b", keep=8)
        for handle in handles.values():
            await server.step(handle, 0, x[:1])
        server.now_s += 1
        newer = (await server.open("c", keep=8))["c"]
        await server.step(newer, 0, x[:1])
        assert server.dataplane.models.find("steps").kept.used_bytes <= 2 * size
        session = await rewound(server, handles["a"], 0)
        assert session.keep == 8
        with pytest.raises(ServiceError):
            await server.dataplane.sessions.open("steps", 0, ["d"], owner="ann", keep=65)
