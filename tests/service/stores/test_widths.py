"""What every store does with sessions of one model version that keep more than others: longer states."""

from collections.abc import Callable

import numpy as np
import pytest
from tests.service.stores.blocks import assert_at, checkpoint, group_of, moving
from tests.service.stores.places import Open

from statewise.service.stores import Block, Name, StoredSession

WIDTHS = {1: 24, 2: 56, 3: 24, 4: 1_000, 5: 120_000, 6: 56}
"""Bytes of the states of sessions, by birth."""


def block_of(births: list[int], position: int, *, named: bool = False, epoch: int = 0) -> Block:
    """A block with a group a width, as a tick has."""
    names = [Name(birth, "ada", f"s{birth}") for birth in births] if named else []
    groups = []
    for size in sorted({WIDTHS[birth] for birth in births}):
        own = [birth for birth in births if WIDTHS[birth] == size]
        groups.append(group_of(own, position, size=size, epoch=epoch))
    return Block(names, groups)


def test_each_session_keeps_its_own_width(open_store: Open) -> None:
    store, other = open_store(), open_store()
    assert list(store.write(block_of([*WIDTHS], 1, named=True)).moved) == []
    store.write(block_of([1, 2, 4], 2))
    store.write(block_of([6, 5], 3))
    while store.tidy(seconds=1):
        pass
    store.write(block_of([2, 3], 4))
    positions = {1: 2, 2: 4, 3: 4, 4: 2, 5: 3, 6: 3}
    for seen in (store, other, open_store()):
        for birth, session in zip(positions, seen.read([*positions]), strict=True):
            assert_at(session, birth, positions[birth], WIDTHS[birth])
        assert seen.usage("ada").stored_bytes == sum(64 + width for width in WIDTHS.values())
    claimed = other.claim([5, 1, 2])
    for birth, session in zip([5, 1, 2], claimed, strict=True):
        assert_at(session, birth, positions[birth], WIDTHS[birth])
    assert sorted(store.write(block_of([*WIDTHS], 9)).moved) == [1, 2, 5]
    other.write(Block(ended=[1, 2]))
    store.write(Block(ended=[3, 4, 6]))
    assert store.usage("ada").stored_bytes == 64 + WIDTHS[5]


def test_a_large_block_of_mixed_widths(open_store: Open) -> None:
    """More than a store writes, or folds, together; wide rows among narrow ones."""
    store = open_store()
    narrow, wide = list(range(1, 1_501)), list(range(2_001, 2_201))
    names = [Name(birth, "ada", f"s{birth}") for birth in (*narrow, *wide)]
    store.write(Block(names, [group_of(narrow, 1), group_of(wide, 1, size=40_000)]))
    store.write(Block(groups=[group_of(wide[::2], 2, size=40_000), group_of(narrow[::3], 2)]))
    while store.tidy(seconds=1):
        pass
    store.write(moving(narrow[::7], 3))
    expected = np.ones(2_300, np.int64)
    expected[wide[::2]] = 2
    expected[narrow[::3]] = 2
    expected[narrow[::7]] = 3
    seen = open_store()
    for births, size in ((narrow, 24), (wide, 40_000)):
        for birth, session in zip(births, seen.read(births), strict=True):
            assert_at(session, birth, int(expected[birth]), size)


@pytest.mark.parametrize("most_bytes", [1, 300, 2_500])
def test_a_call_returns_the_first_sessions_as_far_as_their_bytes_allow(
    open_store: Open, most_bytes: int
) -> None:
    store, other = open_store(), open_store()
    store.write(block_of([*WIDTHS], 1, named=True))
    store.write(Block(groups=[group_of([3], 2)], checkpoints=[checkpoint(3, size=900)]))
    births = [1, 9, 2, 3, 6, 5, 4]
    store.read_bytes = other.read_bytes = most_bytes
    _check_parts(store.read, births, most_bytes)
    _check_parts(other.claim, births, most_bytes)
    _check_parts(lambda some: other.read_own("ada", [one + 1_000 for one in some]), births, most_bytes)


def _check_parts(
    read: Callable[[list[int]], list[StoredSession | None]], births: list[int], most_bytes: int
) -> None:
    """Reads all sessions by as many calls as it takes."""
    left, calls = births, 0
    while left:
        sessions = read(left)
        sizes = [64 + len(one.state) + sum(o.size_bytes for o in one.checkpoints) for one in sessions if one]
        assert len(sizes) <= 1 or sum(sizes) <= most_bytes
        for birth, session in zip(left, sessions, strict=False):
            if birth == 9:
                assert session is None
            else:
                assert_at(session, birth, 2 if birth == 3 else 1, WIDTHS[birth])
        left, calls = left[len(sessions) :], calls + 1
    assert calls in {1: (6, 7), 300: (5,), 2_500: (3,)}[most_bytes]
