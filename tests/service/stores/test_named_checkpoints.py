"""What every store does with named checkpoints: keeps, counts and drops them; they end with their session."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.service.stores.blocks import assert_at, checkpoint, group_of, moving, opening
from tests.service.stores.places import Open

from statewise.service.stores import Block, Name, Store, StoredCheckpoint, StoredSession

LARGE = 2**64 - 5
"""A birth beyond what a signed number holds."""


def keeping(*checkpoints: StoredCheckpoint, position: int = 2, epoch: int = 0) -> Block:
    """A block with checkpoints, and rows of their sessions."""
    births = sorted({one.birth for one in checkpoints})
    return replace(moving(births, position, epoch=epoch), checkpoints=checkpoints)


def dropping(*names: tuple[int, str]) -> Block:
    """A block that drops checkpoints."""
    return Block(dropped=names)


def of(session: StoredSession | None) -> list[StoredCheckpoint]:
    """The checkpoints of a session that is there."""
    assert session is not None
    return list(session.checkpoints)


def opened(open_store: Open, births: Sequence[int] = (1, 2)) -> tuple[Store, Store]:
    """Two writers; the first one has sessions."""
    first, second = open_store(), open_store()
    first.write(opening(births))
    return first, second


def test_checkpoints_are_read_back_in_the_order_in_which_they_were_made(open_store: Open) -> None:
    first, second = opened(open_store, [1, 2, LARGE])
    kept = [checkpoint(1, "z"), checkpoint(1, "é\n", position=2**63 + 5), checkpoint(LARGE, size=70_000)]
    written = first.write(keeping(kept[0], kept[2]))
    assert list(written.moved) == []
    assert written.stored_bytes >= 70_000
    first.write(keeping(kept[1]))
    for store in (first, second, open_store()):
        one, none, large = store.read([1, 2, LARGE])
        assert of(one) == kept[:2]
        assert of(none) == []
        assert of(large) == kept[2:]
        assert_at(one, 1, 2)
    assert [of(one) for one in first.read_own("ada", [1_002, 1_001])] == [[], kept[:2]]
    assert [of(one) for one in second.claim([2, 1])] == [[], kept[:2]]
    assert of(second.read_own("ada", [1_001])[0]) == kept[:2]


def test_a_session_begins_with_checkpoints(open_store: Open) -> None:
    store = open_store()
    store.write(replace(opening([1, 2]), checkpoints=[checkpoint(2), checkpoint(2, "b", position=3)]))
    assert [len(of(one)) for one in open_store().read([1, 2])] == [0, 2]


def test_a_checkpoint_stays_as_it_is_while_its_session_moves(open_store: Open) -> None:
    store, other = opened(open_store)
    store.write(keeping(checkpoint(1)))
    for position in range(3, 9):
        store.write(moving([1, 2], position))
        while other.tidy(seconds=1):
            pass
    for session in (*open_store().read([1]), *other.claim([1])):
        assert_at(session, 1, 8)
        assert of(session) == [checkpoint(1)]


def test_dropped_checkpoints_are_gone_and_their_names_free(open_store: Open) -> None:
    store, other = opened(open_store)
    store.write(keeping(checkpoint(1), checkpoint(1, "b"), checkpoint(2)))
    store.write(dropping((1, "a"), (1, "none")))
    assert [len(of(one)) for one in other.read([1, 2])] == [1, 1]
    anew = checkpoint(1, "b", position=9, size=3)
    store.write(replace(keeping(anew), dropped=[(1, "b")]))
    assert of(other.read([1])[0]) == [anew]
    store.write(dropping((1, "b"), (2, "a")))
    assert [of(one) for one in other.read([1, 2])] == [[], []]


def test_a_block_with_checkpoints_twice_changes_nothing(open_store: Open) -> None:
    store, other = opened(open_store)
    store.write(keeping(checkpoint(1, "old")))
    block = replace(keeping(checkpoint(1), checkpoint(2)), dropped=[(1, "old"), (2, "a")])
    for _ in range(3):
        assert list(store.write(block).moved) == []
        assert [of(one) for one in other.read([1, 2])] == [[checkpoint(1)], [checkpoint(2)]]
        assert store.usage().stored_bytes == store.usage("ada").stored_bytes == _bytes(other, [1, 2])


def _bytes(store: Store, births: Sequence[int]) -> int:
    """What sessions count for, as they are read."""
    sessions = [session for session in store.read(births) if session is not None]
    rows = sum(64 + len(session.state) for session in sessions)
    return rows + sum(one.size_bytes for session in sessions for one in session.checkpoints)


def test_checkpoints_count_in_the_usage_of_their_owner(open_store: Open) -> None:
    store, other = opened(open_store)
    store.write(opening([3], owner="bob"))
    before = store.usage("bob")
    store.write(keeping(checkpoint(1), checkpoint(1, "b", size=500), checkpoint(2)))
    for seen in (store, other):
        assert seen.usage("bob") == before
        assert seen.usage("ada").sessions == 2
        assert seen.usage("ada").stored_bytes == _bytes(other, [1, 2])
        assert seen.usage().stored_bytes == _bytes(other, [1, 2, 3])
    store.write(keeping(replace(checkpoint(1, "b", size=100), origin="another")))
    assert store.usage("ada").stored_bytes == _bytes(other, [1, 2])
    store.write(dropping((1, "b"), (2, "a"), (2, "none")))
    assert store.usage("ada").stored_bytes == _bytes(other, [1, 2]) > 0
    store.write(Block(ended=[1, 2]))
    assert store.usage("ada").stored_bytes == 0
    assert store.usage() == before


@pytest.mark.parametrize("how", ["ended", "end", "expire", "replaced", "ended in the same block"])
def test_checkpoints_end_with_their_session(open_store: Open, how: str) -> None:
    store, other = opened(open_store)
    store.write(keeping(checkpoint(1), checkpoint(2)))
    match how:
        case "ended":
            store.write(Block(ended=[1]))
        case "end":
            other.end("ada", [1])
        case "expire":
            store.write(moving([2], 3, used_ms=900))
            assert other.expire(used_before_ms=100, limit=9) == [1]
        case "replaced":
            other.write(Block([Name(5, "ada", "s1")], [group_of([5], 1)]))
        case _:
            store.write(replace(keeping(checkpoint(1, "late")), ended=[1]))
    assert list(store.write(keeping(checkpoint(1, "later"))).moved) == [1]
    for seen in (store, other):
        one, two = seen.read([1, 2])
        assert one is None
        assert of(two) == [checkpoint(2)]
        assert seen.usage().stored_bytes == _bytes(seen, [1, 2, 5])
    new = Block([Name(7, "ada", "s1")], [group_of([7], 1)])
    other.write(new)
    assert of(store.read([7])[0]) == []


def test_checkpoints_of_a_session_that_another_writer_has_are_left_out(open_store: Open) -> None:
    stale, store = opened(open_store, [1, 2, 3])
    stale.write(keeping(checkpoint(1), checkpoint(1, "b"), checkpoint(3)))
    [claimed] = store.claim([1])
    assert claimed is not None
    epoch = int(claimed.row["epoch"])
    late = checkpoint(1, "late")
    assert list(stale.write(keeping(late, checkpoint(2))).moved) == [1]
    assert list(stale.write(Block(checkpoints=[late])).moved) == [1]
    assert list(stale.write(replace(moving([3], 4), dropped=[(1, "a"), (3, "a")])).moved) == [1]
    before = store.usage()
    assert list(stale.write(keeping(late, epoch=epoch + 3)).moved) == [1]
    assert [of(one) for one in store.read([1, 2, 3])] == [
        [checkpoint(1), checkpoint(1, "b")],
        [checkpoint(2)],
        [],
    ]
    assert store.usage() == before
    mine = checkpoint(1, "mine", position=7)
    assert list(store.write(replace(keeping(mine, epoch=epoch), dropped=[(1, "b")])).moved) == []
    assert of(stale.read([1])[0]) == [checkpoint(1), mine]


def test_a_row_that_is_too_old_takes_no_checkpoints_along(open_store: Open) -> None:
    store, _ = opened(open_store)
    [claimed] = store.claim([1])
    assert claimed is not None
    assert list(store.write(keeping(checkpoint(1), checkpoint(2))).moved) == [1]
    assert [len(of(one)) for one in store.read([1, 2])] == [0, 1]


def test_a_birth_that_has_another_name_gets_no_checkpoints(open_store: Open) -> None:
    store, _ = opened(open_store)
    block = Block([Name(1, "eve", "mine")], [group_of([1], 9)], checkpoints=[checkpoint(1)])
    assert list(store.write(block).moved) == [1]
    assert of(store.read([1])[0]) == []


def test_many_checkpoints_of_many_sessions_in_one_block(open_store: Open) -> None:
    """More than a store writes together, and one session that alone has more."""
    births = list(range(1, 301))
    store = open_store()
    many = [
        checkpoint(birth, f"n{number}", position=number, size=2_000)
        for birth in births
        for number in range(1, 6)
    ]
    large = [checkpoint(7, f"large {number}", position=100 + number, size=900_000) for number in range(8)]
    store.write(replace(opening(births), checkpoints=[*many, *large]))
    store.write(replace(moving(births, 5), dropped=[(birth, "n3") for birth in births]))
    for birth, session in zip(births, open_store().read(births), strict=True):
        assert_at(session, birth, 5)
        expected = [one for one in many if one.birth == birth and one.name != "n3"]
        assert of(session) == expected + (large if birth == 7 else [])
    assert store.usage().stored_bytes == _bytes(store, births)
