"""Takes a session over while its server steps it, rewinds it and keeps its states: what was told is there."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from tests.service.durability.stored_server import StoredServer, serving, stepping
from tests.service.stores.places import Open

from statewise.service.base import StepResult
from statewise.service.dataplane import SessionCheckpoints

Array = np.ndarray


def u64(*numbers: int) -> Array:
    return np.array(numbers, np.uint64)


async def ticking(server: StoredServer) -> None:
    """Writes again and again, as a server does."""
    while True:
        await server.stored.checkpoints.tick()
        await asyncio.sleep(0)


async def in_turn(server: StoredServer, handle: int, position: int, x: Array) -> StepResult:
    """Steps a session, as a task that begins after those before it."""
    return await stepping(server, [handle], position, [len(x)], x)


async def later(turns: int, server: StoredServer, session_id: str) -> int:
    """Takes a session over after some turns of the event loop. Returns its handle."""
    for _ in range(turns):
        await asyncio.sleep(0)
    return (await server.resume(session_id))[session_id]


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20, 100, 400])
async def test_what_was_told_before_a_takeover_is_where_the_session_is(
    repository: Path, open_store: Open, x: Array, expected: Array, turns: int
) -> None:
    async with (
        serving(repository, open_store, durability="reply") as stale,
        serving(repository, open_store) as taker,
    ):
        old = (await stale.open("a", keep=4))["a"]
        writing = asyncio.ensure_future(ticking(stale))
        await stepping(stale, [old], 0, [2], x[:2])
        stepped = await stepping(stale, [old], 2, [1], x[2:3])
        assert not stepped.failures
        checkpoints = SessionCheckpoints.beside(stale.dataplane.sessions)
        one, going, other, back, handle = await asyncio.gather(
            checkpoints.create(u64(old), ["before"], None, owner="ann"),
            in_turn(stale, old, 3, x[3:5]),
            checkpoints.create(u64(old), ["after"], None, owner="ann"),
            stale.dataplane.sessions.rewind(u64(old), u64(2), owner="ann"),
            later(turns, taker, "a"),
        )
        writing.cancel()
        found = SessionCheckpoints.beside(taker.dataplane.sessions)
        (listed,), _ = await found.list_all(u64(handle), owner="ann")
        positions = {made.name: made.position for made in listed}
        for (told, _), position in ((one, 3), (other, 5)):
            for made in told:
                assert positions[made.name] == made.position == position
        (session,) = (await taker.dataplane.sessions.resume(["a"], owner="ann"))[0]
        handle, position = session.view.handle, session.view.position
        rewinds, _ = back
        if rewinds:
            assert (position, list(session.kept_positions)) == (2, [0])
        elif not going.failures:
            assert position in (2, 5)
        else:
            assert position in (2, 3, 5)
        y = (await taker.step(handle, position, x[position:])).outputs["y"]
        assert y.tobytes() == expected[position:].tobytes()
        for name, position in positions.items():
            (gone,), _ = await found.go_to(u64(handle), [name], None, owner="ann")
            assert gone.view.position == position
            y = (await taker.step(handle, position, x[position:])).outputs["y"]
            assert y.tobytes() == expected[position:].tobytes()
