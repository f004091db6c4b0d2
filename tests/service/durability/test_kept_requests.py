"""Takes sessions back by several requests, after they slept, moved to another server, or lost theirs."""

from pathlib import Path

import numpy as np
import pytest
from tests.service.durability.hops import HOPS, hopping
from tests.service.durability.stored_server import StoredServer, serving
from tests.service.stores.places import Open

Array = np.ndarray
KEEP = 8


async def rewind(server: StoredServer, handle: int, position: int) -> list[int]:
    """Takes a session back; returns the positions that it can be taken back to from there."""
    rewound, failures = await server.dataplane.sessions.rewind(
        np.array([handle], np.uint64), np.array([position], np.uint64), owner="ann"
    )
    assert failures == []
    assert rewound[0].view.position == position
    return list(rewound[0].kept_positions)


@pytest.mark.parametrize("how", HOPS)
async def test_a_session_goes_back_to_each_kept_position_wherever_it_is(
    repository: Path, open_store: Open, x: Array, expected: Array, how: str
) -> None:
    async with hopping(repository, open_store, how) as (server, hop):
        handle = (await server.open("a", keep=KEEP))["a"]
        starts = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
        for start, end in zip(starts, [*starts[1:], 12], strict=True):
            await server.step(handle, start, x[start:end])
            if start == 6:
                server, handle = await hop(handle)
        left = starts[-KEEP:]
        for position in reversed(starts[-KEEP:]):
            server, handle = await hop(handle)
            left.remove(position)
            assert await rewind(server, handle, position) == left
            server, handle = await hop(handle)
            result = await server.step(handle, position, x[position:])
            assert result.outputs["y"].tobytes() == expected[position:].tobytes()
            assert await rewind(server, handle, position) == left


async def test_sessions_that_keep_different_numbers_share_a_tick(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    keeps = {f"s{number}": keep for number, keep in enumerate([1, 8, 2, 64, 1, 8, 33])}
    async with serving(repository, open_store) as server:
        handles: dict[str, int] = {}
        for name, keep in keeps.items():
            handles |= await server.open(name, keep=keep)
        for position in range(12):
            for handle in handles.values():
                await server.step(handle, position, x[position : position + 1])
            await server.stored.settle()
        size = server.dataplane.models.find("steps").kept.session_bytes
        assert server.store.usage("ann").stored_bytes == sum(64 + size(keep) for keep in keeps.values())
    async with serving(repository, open_store) as server:
        for name, keep in keeps.items():
            handle = (await server.resume(name))[name]
            target = max(12 - keep, 0)
            assert await rewind(server, handle, target) == []
            result = await server.step(handle, target, x[target:])
            assert result.outputs["y"].tobytes() == expected[target:].tobytes()


async def test_a_killed_server_leaves_the_requests_that_it_had_stored(
    repository: Path, open_store: Open, x: Array, expected: Array
) -> None:
    async with serving(repository, open_store) as server:
        handle = (await server.open("a", keep=3))["a"]
        for position in range(8):
            await server.step(handle, position, x[position : position + 1])
        await server.stored.settle()
        for position in range(8, 12):
            await server.step(handle, position, x[position : position + 1])
    async with serving(repository, open_store) as server:
        handle = (await server.resume("a"))["a"]
        assert await rewind(server, handle, 6) == [5]
        result = await server.step(handle, 6, x[6:])
        assert result.outputs["y"].tobytes() == expected[6:].tobytes()
