"""Builds blocks for stores, and compares what a store returns with them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.service.stores import ROW, Block, Group, Name, StoredCheckpoint, StoredSession

STATE_BYTES = 24
DIGEST = "ab" * 32


def state_of(birth: int, position: int, size: int = STATE_BYTES) -> NDArray[np.uint8]:
    """A state that no other birth and position has."""
    generator = np.random.Generator(np.random.PCG64([birth % 2**63, position]))
    return generator.integers(0, 256, size, dtype=np.uint8)


def rows_of(births: Sequence[int], position: int, *, epoch: int = 0, used_ms: int = 0) -> NDArray[np.void]:
    """Rows of these births, all at one position; the handle of a birth is birth + 1,000."""
    rows = np.zeros(len(births), ROW)
    rows["birth"] = births
    rows["handle"] = rows["birth"] + np.uint64(1_000)
    rows["holder"] = 7
    rows["position"] = position
    rows["previous_position"] = max(position - 1, 0)
    rows["digest"] = position * 31
    rows["used_ms"] = used_ms or position
    rows["epoch"] = epoch
    rows["flags"] = position % 2
    return rows


def group_of(
    births: Sequence[int],
    position: int,
    *,
    epoch: int = 0,
    used_ms: int = 0,
    model: str = "digits",
    size: int = STATE_BYTES,
) -> Group:
    """A group of these births at a position, with the states of `state_of`."""
    states = np.zeros((len(births), size), np.uint8)
    for place, birth in enumerate(births):
        states[place] = state_of(birth, position, size)
    return Group(model, 3, DIGEST, rows_of(births, position, epoch=epoch, used_ms=used_ms), states)


def opening(births: Sequence[int], *, owner: str = "ada", position: int = 1, used_ms: int = 0) -> Block:
    """A block that opens sessions `s<birth>` of an owner."""
    names = [Name(birth, owner, f"s{birth}") for birth in births]
    return Block(names, [group_of(births, position, used_ms=used_ms)])


def moving(births: Sequence[int], position: int, *, epoch: int = 0, used_ms: int = 0) -> Block:
    """A block that brings sessions to a position."""
    return Block(groups=[group_of(births, position, epoch=epoch, used_ms=used_ms)])


def checkpoint(birth: int, name: str = "a", *, position: int = 1, size: int = 24) -> StoredCheckpoint:
    """A checkpoint whose state no other birth and position has, made later than those of lower ones."""
    state = state_of(birth, (1_000 + position) % 2**63, size).tobytes()
    return StoredCheckpoint(
        birth, name, position, 1_700_000_000_000 + position % 1_000, f"from {birth}", state
    )


def assert_at(session: StoredSession | None, birth: int, position: int, size: int = STATE_BYTES) -> None:
    """The session is this birth at this position, with its own state."""
    assert session is not None
    assert (int(session.row["birth"]), int(session.row["position"])) == (birth, position)
    assert session.state.tobytes() == state_of(birth, position, size).tobytes()
