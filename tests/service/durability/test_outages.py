"""Takes the store away for a while: nothing grows without bound, and what is sent again is done once."""

from pathlib import Path

import numpy as np
import pytest
from tests.service.durability.stored_server import serving

from statewise.service import ServiceError
from statewise.service.stores import Block, StoreUnavailable, Written
from statewise.service.stores.sqlite import SqliteStore


class Disk:
    """A disk with a store, which only reads while the disk is full."""

    def __init__(self, folder: Path) -> None:
        self.full = False
        self._path = folder / "sessions.db"

    def open_store(self) -> SqliteStore:
        """Opens a writer."""
        disk = self

        class Store(SqliteStore):
            def write(self, block: Block) -> Written:
                if disk.full:
                    raise StoreUnavailable("the disk is full")
                return super().write(block)

        return Store(self._path)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """A disk that has room."""
    return Disk(tmp_path)


async def test_ended_sessions_that_the_store_does_not_know_of_are_bounded(
    repository: Path, disk: Disk
) -> None:
    async with serving(repository, disk.open_store) as server:
        handles = await server.open("a", "b")
        await server.stored.settle()
        changed = server.dataplane.table.changed
        assert changed is not None
        for birth in range(1, 65_536):
            changed.note_ended(birth)
        disk.full = True
        assert not await server.stored.checkpoints.tick()
        with pytest.raises(ServiceError, match="does not answer"):
            await server.close(handles["a"])  # there is room for one
        for close in (
            server.close(handles["b"]),
            server.dataplane.session_administration.close("b", owner="ann"),
        ):
            with pytest.raises(ServiceError, match="too many ended sessions") as refused:
                await close
            assert (refused.value.reason, refused.value.retry_after_s) == ("STORE_UNAVAILABLE", 1.0)
        _, failures = await server.dataplane.sessions.snapshot(
            np.array([handles["b"]], np.uint64), owner="ann"
        )
        assert failures == []  # it is as it was
        disk.full = False
        assert await server.stored.checkpoints.tick()
        assert await server.close(handles["b"]) == []


async def test_a_rewind_that_was_not_stored_may_be_sent_again(
    repository: Path, disk: Disk, random: np.random.Generator
) -> None:
    x = random.standard_normal((4, 3)).astype(np.float32)
    async with serving(repository, disk.open_store) as server:
        handle = (await server.open("a"))["a"]
        await server.step(handle, 0, x[:2])
        await server.step(handle, 2, x[2:])
        await server.stored.settle()
        disk.full = True
        handles, positions = np.array([handle], np.uint64), np.array([2], np.uint64)
        for _ in range(2):
            with pytest.raises(ServiceError, match="does not answer"):
                await server.dataplane.sessions.rewind(handles, positions, owner="ann")
        disk.full = False
        for _ in range(2):
            (rewound,), failures = await server.dataplane.sessions.rewind(handles, positions, owner="ann")
            assert (rewound.view.position, failures) == (2, [])
    async with serving(repository, disk.open_store) as server:
        (resumed,), _ = await server.dataplane.sessions.resume(["a"], owner="ann")
        assert resumed.view.position == 2
