"""Checks the epoch that callers see: it never falls, however servers end and sessions move."""

from pathlib import Path

import numpy as np
from tests.service.durability.stored_server import StoredServer, serving
from tests.service.stores.places import Open

from statewise.service.dataplane import ExpectedSessions


async def epoch_of(server: StoredServer, expected: ExpectedSessions) -> int:
    """Resumes the session, as its holder does after each broken connection."""
    (resumed,), _ = await server.dataplane.sessions.resume(["a"], owner="ann", expected=expected)
    return resumed.view.epoch


async def test_the_epoch_never_falls(repository: Path, open_store: Open) -> None:
    own = ExpectedSessions(births=[5], holders=[5])
    seen = [1]
    async with serving(repository, open_store) as server:
        await server.dataplane.sessions.open("steps", 0, ["a"], owner="ann", births=[5])
        await server.stored.settle()
        seen += [await epoch_of(server, own) for _ in range(5)]  # the store is not told before the end
        assert seen == [1, 2, 3, 4, 5, 6]
    for _ in range(2):
        async with serving(repository, open_store) as server:
            seen += [await epoch_of(server, own) for _ in range(3)]
            (resumed,), _ = await server.dataplane.sessions.resume(["a"], owner="ann", expected=own)
            await server.step(resumed.view.handle, resumed.view.position, np.zeros((1, 3), np.float32))
            await server.sleep()
            (asleep,) = await server.listed(size=10)
            assert asleep.epoch > seen[-1]
            seen.append(asleep.epoch)
            seen += [await epoch_of(server, own) for _ in range(2)]
            await server.stored.settle()
    assert seen == sorted(seen)
