"""What every store does: writing, finding, reading, listing, counting, expiring."""

import numpy as np
import pytest
from tests.service.stores.blocks import STATE_BYTES, assert_at, group_of, moving, opening, rows_of
from tests.service.stores.places import Open

from statewise.service.stores import Block, Name

LARGE = 2**64 - 5
"""A birth, and a handle, beyond what a signed number holds."""


def test_what_was_written_is_read_back(open_store: Open) -> None:
    store = open_store()
    block = opening([1, 2, LARGE])
    written = store.write(block)
    assert list(written.moved) == []
    assert written.stored_bytes >= 3 * STATE_BYTES
    for place, (birth, session) in enumerate(zip([1, 2, LARGE], store.read([1, 2, LARGE]), strict=True)):
        assert_at(session, birth, 1)
        assert session is not None
        assert session.row == block.groups[0].rows[place]
        assert (session.owner, session.session_id) == ("ada", f"s{birth}")
        assert (session.model, session.version, session.digest) == ("digits", 3, "ab" * 32)
    assert store.read([9]) == [None]


def test_a_second_writer_and_a_later_one_read_the_same(open_store: Open) -> None:
    first, second = open_store(), open_store()
    first.write(opening([1, 2]))
    first.write(moving([2], 5))
    for store in (second, open_store()):
        sessions = store.read([2, 1])
        assert_at(sessions[0], 2, 5)
        assert_at(sessions[1], 1, 1)


def test_the_newest_state_wins(open_store: Open) -> None:
    store = open_store()
    store.write(opening([1, 2]))
    for position in (2, 9, 4):
        store.write(moving([1], position))
    sessions = store.read([1, 2])
    assert_at(sessions[0], 1, 4)
    assert_at(sessions[1], 2, 1)


def test_sessions_of_several_models_in_one_block(open_store: Open) -> None:
    store = open_store()
    names = [Name(birth, "ada", f"s{birth}") for birth in (1, 2, 3)]
    groups = [group_of([1], 4, model="a", size=5), group_of([2, 3], 6, model="b", size=1_000)]
    store.write(Block(names, groups))
    sessions = store.read([3, 1])
    assert_at(sessions[0], 3, 6, 1_000)
    assert_at(sessions[1], 1, 4, 5)
    assert [session.model for session in sessions if session] == ["b", "a"]


def test_a_block_of_nothing(open_store: Open) -> None:
    store = open_store()
    assert list(store.write(Block()).moved) == []
    assert store.read([]) == []
    assert store.find("ada", []) == []
    assert store.find_handles([]) == []
    assert store.claim([]) == []


def test_sessions_are_found_by_name(open_store: Open) -> None:
    store, other = open_store(), open_store()
    store.write(opening([1, LARGE]))
    store.write(opening([3], owner="bob"))
    for seen in (store, other):
        assert seen.find("ada", [f"s{LARGE}", "s9", "s1", "s3"]) == [LARGE, 0, 1, 0]
        assert seen.find("bob", ["s3"]) == [3]


def test_sessions_are_found_by_their_newest_handle(open_store: Open) -> None:
    store, other = open_store(), open_store()
    store.write(opening([1, 2]))
    group = group_of([1], 2)
    group.rows["handle"] = LARGE
    store.write(Block(groups=[group]))
    for seen in (store, other):
        assert seen.find_handles([1_001, LARGE, 1_002, 5]) == [0, 1, 2, 0]


def test_the_same_block_twice_changes_nothing(open_store: Open) -> None:
    store = open_store()
    block = opening([1, 2])
    store.write(block)
    before = store.usage()
    assert list(store.write(block).moved) == []
    assert store.usage() == before
    assert store.find("ada", ["s1", "s2"]) == [1, 2]


def test_a_name_goes_to_the_newer_birth(open_store: Open) -> None:
    store, other = open_store(), open_store()
    store.write(opening([1, 2]))
    other.write(Block([Name(5, "ada", "s1")], [group_of([5], 1)]))
    for seen in (store, other):
        assert seen.find("ada", ["s1"]) == [5]
        assert seen.read([1]) == [None]
        assert seen.find_handles([1_001, 1_005]) == [0, 5]
    assert list(store.write(moving([1, 2], 3)).moved) == [1]
    assert store.read([1]) == [None]
    assert store.usage("ada").sessions == 2


def test_a_block_ends_a_session_and_opens_its_name_anew(open_store: Open) -> None:
    store = open_store()
    store.write(opening([1]))
    store.write(Block([Name(2, "ada", "s1")], [group_of([2], 1)], [1]))
    assert store.find("ada", ["s1"]) == [2]
    assert store.read([1]) == [None]


@pytest.mark.parametrize("births", [[1, 5], [5, 1]])
def test_a_block_with_both_sessions_of_a_name_leaves_the_newer(open_store: Open, births: list[int]) -> None:
    store = open_store()
    store.write(opening([1]))
    store.write(Block([Name(5, "ada", "s1")], [group_of(births, 2)]))
    assert store.find("ada", ["s1"]) == [5]
    assert store.find_handles([1_001, 1_005]) == [0, 5]
    old, new = store.read([1, 5])
    assert old is None
    assert_at(new, 5, 2)
    assert store.usage().sessions == 1


def test_what_has_ended_stays_ended(open_store: Open) -> None:
    store, other = open_store(), open_store()
    store.write(opening([1, 2]))
    store.write(Block(ended=[1]))
    for writer in (store, other):
        [claimed] = writer.claim([2])
        assert claimed is not None
        moved = writer.write(moving([1, 2], 5, epoch=int(claimed.row["epoch"]))).moved
        assert list(moved) == [1]
        assert writer.read([1]) == [None]
        assert writer.claim([1]) == [None]
        assert writer.find("ada", ["s1", "s2"]) == [0, 2]
        assert writer.find_handles([1_001]) == [0]
        assert list(writer.write(opening([1])).moved) == [1]
        assert writer.find("ada", ["s1"]) == [0]
    assert store.usage("ada").sessions == 1


def test_a_writer_learns_which_sessions_it_could_not_end(open_store: Open) -> None:
    store, other = open_store(), open_store()
    store.write(opening([1, 2, 3]))
    other.claim([2, 3])
    other.write(Block(ended=[3]))
    for _ in range(2):
        assert list(store.write(Block(ended=[1, 2, 3, 9])).kept) == [2]
    assert store.find("ada", ["s1", "s2", "s3"]) == [0, 2, 0]


def test_an_owner_ends_sessions_of_any_writer(open_store: Open) -> None:
    first, second, third = open_store(), open_store(), open_store()
    first.write(opening([1, 2, LARGE]))
    second.claim([2])
    third.end("eve", [1])
    assert third.usage("ada").sessions == 3
    third.end("ada", [1, 2, 9, LARGE])
    third.end("ada", [1])
    assert first.find("ada", ["s1", "s2", f"s{LARGE}"]) == [0, 0, 0]
    assert list(first.write(moving([1], 5)).moved) == [1]
    assert list(second.write(moving([2], 5, epoch=9)).moved) == [2]
    assert second.usage("ada").sessions == 0
    third.write(opening([3]))
    assert third.usage("ada").sessions == 1


def test_ending_what_is_not_there_does_nothing(open_store: Open) -> None:
    store = open_store()
    store.write(Block(ended=[5]))
    assert store.usage().sessions == 0


def test_a_session_that_opens_and_ends_in_one_block_is_not_there(open_store: Open) -> None:
    store = open_store()
    block = opening([1, 2])
    store.write(Block(block.names, block.groups, [1]))
    assert store.find("ada", ["s1", "s2"]) == [0, 2]
    assert store.usage("ada").sessions == 1


def test_a_name_comes_with_a_row(open_store: Open) -> None:
    store = open_store()
    with pytest.raises(ValueError, match="row"):
        store.write(Block([Name(1, "ada", "s1")]))


def test_a_birth_keeps_its_name(open_store: Open) -> None:
    store = open_store()
    store.write(opening([1]))
    written = store.write(Block([Name(1, "eve", "mine")], [group_of([1], 9)]))
    assert list(written.moved) == [1]
    assert_at(store.read([1])[0], 1, 1)
    assert store.find("eve", ["mine"]) == [0]


def test_a_claim_fences_the_writer_that_had_the_session(open_store: Open) -> None:
    first, second = open_store(), open_store()
    first.write(opening([1, 2]))
    [claimed] = second.claim([1])
    assert_at(claimed, 1, 1)
    assert claimed is not None
    epoch = int(claimed.row["epoch"])
    assert epoch > 0
    assert list(first.write(moving([1, 2], 5)).moved) == [1]
    assert_at(second.read([1])[0], 1, 1)
    assert list(second.write(moving([1], 7, epoch=epoch)).moved) == []
    assert list(first.write(moving([1], 6)).moved) == [1]
    sessions = first.read([1, 2])
    assert_at(sessions[0], 1, 7)
    assert_at(sessions[1], 2, 5)


def test_a_writer_that_lost_a_session_does_not_end_it(open_store: Open) -> None:
    first, second = open_store(), open_store()
    first.write(opening([1, 2]))
    [claimed] = second.claim([1])
    assert claimed is not None
    first.write(Block(ended=[1, 2]))
    epoch = int(claimed.row["epoch"])
    assert list(second.write(moving([1], 7, epoch=epoch)).moved) == []
    sessions = first.read([1, 2])
    assert_at(sessions[0], 1, 7)
    assert sessions[1] is None
    second.write(Block(ended=[1]))
    assert first.read([1]) == [None]


def test_claims_raise_the_epoch_each_time(open_store: Open) -> None:
    first, second = open_store(), open_store()
    first.write(opening([1]))
    epochs = []
    for store in (second, first, first, second):
        [claimed] = store.claim([1])
        assert claimed is not None
        epochs.append(int(claimed.row["epoch"]))
    assert epochs == sorted(set(epochs))
    assert first.claim([4, 1, 5])[::2] == [None, None]
    [read] = first.read([1])
    assert read is not None
    assert int(read.row["epoch"]) > epochs[-1]


def test_two_writers_alternate(open_store: Open) -> None:
    stores = [open_store(), open_store()]
    stores[0].write(opening([1, 2]))
    for position in range(2, 12):
        store = stores[position % 2]
        [claimed] = store.claim([1])
        assert_at(claimed, 1, position - 1 if position > 2 else 1)
        assert claimed is not None
        written = store.write(moving([1], position, epoch=int(claimed.row["epoch"])))
        assert list(written.moved) == []
    assert_at(open_store().read([1])[0], 1, 11)


def test_a_session_names_itself_once_among_many_blocks(open_store: Open) -> None:
    store = open_store()
    births = list(range(1, 301))
    store.write(opening(births))
    for position in range(2, 6):
        store.write(moving(births[position::3], position))
    for birth, session in zip(births, open_store().read(births), strict=True):
        assert session is not None
        expected = max([1, *(p for p in range(2, 6) if birth in births[p::3])])
        assert_at(session, birth, expected)


def test_listing_goes_by_owner_and_id(open_store: Open) -> None:
    store, other = open_store(), open_store()
    store.write(opening([1, 2, 3], owner="bob"))
    store.write(opening([4, 5], owner="ada"))
    store.write(opening([6], owner="é"))
    store.write(moving([2], 8))
    store.write(Block(ended=[3]))
    for seen in (store, other):
        names, after = [], ("", "")
        while page := seen.list_sessions(None, after=after, limit=2):
            names += [(listed.owner, listed.session_id, int(listed.row["position"])) for listed in page]
            assert len(page) <= 2
            after = names[-1][:2]
        assert names == [
            ("ada", "s4", 1),
            ("ada", "s5", 1),
            ("bob", "s1", 1),
            ("bob", "s2", 8),
            ("é", "s6", 1),
        ]
        assert [one.session_id for one in seen.list_sessions("bob", after=("bob", "s1"), limit=9)] == ["s2"]
        assert [one.session_id for one in seen.list_sessions("bob", after=("", ""), limit=9)] == ["s1", "s2"]
        assert [(one.model, one.version) for one in seen.list_sessions("é", after=("", ""), limit=1)] == [
            ("digits", 3)
        ]
        assert seen.list_sessions(None, after=("", ""), limit=0) == []
        assert seen.list_sessions("carl", after=("", ""), limit=9) == []


def test_usage_counts_sessions_and_bytes(open_store: Open) -> None:
    store, other = open_store(), open_store()
    assert store.usage().sessions == store.usage().stored_bytes == 0
    store.write(opening([1, 2]))
    other.write(opening([3], owner="bob"))
    for seen in (store, other):
        assert [seen.usage(owner).sessions for owner in ("ada", "bob", "carl", None)] == [2, 1, 0, 3]
        assert seen.usage("ada").stored_bytes >= 2 * STATE_BYTES
        assert seen.usage().stored_bytes == seen.usage("ada").stored_bytes + seen.usage("bob").stored_bytes
    store.write(Block(ended=[1, 2]))
    other.write(Block(ended=[3]))
    assert other.usage().sessions == other.usage().stored_bytes == 0


def test_expiring_ends_what_was_last_used_before_a_time(open_store: Open) -> None:
    store, other = open_store(), open_store()
    for birth in range(1, 7):
        store.write(opening([birth], used_ms=birth * 100))
    store.write(moving([1], 2, used_ms=5_000))
    assert other.expire(used_before_ms=200, limit=10) == []
    first = other.expire(used_before_ms=501, limit=2)
    assert len(first) == 2
    rest = other.expire(used_before_ms=501, limit=10)
    assert sorted([*first, *rest]) == [2, 3, 4, 5]
    assert store.read([2, 3]) == [None, None]
    assert sorted(store.write(moving([1, 4, 6], 9, used_ms=6_000)).moved) == [4]
    assert store.usage().sessions == 2


def test_tidying_changes_nothing_that_is_seen(open_store: Open) -> None:
    store, other = open_store(), open_store()
    store.write(opening([1, 2, 3]))
    other.claim([2, 3])
    other.write(moving([2], 4, epoch=2))
    while store.tidy(seconds=1):
        pass
    other.write(moving([3], 6, epoch=2))
    store.write(Block(ended=[1]))
    while other.tidy(seconds=1):
        pass
    for seen in (store, other, open_store()):
        sessions = seen.read([1, 2, 3])
        assert sessions[0] is None
        assert_at(sessions[1], 2, 4)
        assert_at(sessions[2], 3, 6)
        assert seen.find_handles([1_001, 1_002, 1_003]) == [0, 2, 3]


def test_a_closed_store_has_kept_everything(open_store: Open) -> None:
    store = open_store()
    store.write(opening([1]))
    store.close()
    store.close()
    assert_at(open_store().read([1])[0], 1, 1)


def test_what_is_read_belongs_to_the_reader(open_store: Open) -> None:
    store = open_store()
    store.write(opening([1]))
    [session] = store.read([1])
    assert session is not None
    session.state[:] = 0
    session.row["position"] = 99
    assert_at(store.read([1])[0], 1, 1)


def test_arrays_that_are_not_contiguous_are_written(open_store: Open) -> None:
    store = open_store()
    group = group_of([1, 2, 3, 4], 1)
    spread = type(group)(group.model, 3, group.digest, group.rows[::2], group.states[::2])
    store.write(Block([Name(1, "ada", "s1"), Name(3, "ada", "s3")], [spread]))
    assert_at(store.read([3])[0], 3, 1)
    assert np.array_equal(rows_of([1], 1)[0], store.read([1])[0].row)  # type: ignore[union-attr]


def test_a_writer_whose_session_was_claimed_changes_it_no_more(open_store: Open) -> None:
    """Of whatever epoch: it may have raised its own meanwhile."""
    stale, store = open_store(), open_store()
    stale.write(opening([1, 2]))
    stale.write(moving([1, 2], 5))
    [claimed] = store.claim([1])
    assert claimed is not None
    epoch = int(claimed.row["epoch"])
    assert list(stale.write(moving([1, 2], 6, epoch=epoch + 3)).moved) == [1]
    stale.write(Block(ended=[1]))
    stale.write(Block([Name(1, "ada", "s1")], [group_of([1], 7, epoch=epoch + 3)]))
    assert_at(store.read([1])[0], 1, 5)
    assert list(store.write(moving([1], 9, epoch=epoch)).moved) == []
    [again] = stale.claim([1])
    assert again is not None
    assert list(stale.write(moving([1], 12, epoch=int(again.row["epoch"]))).moved) == []
    assert_at(store.read([1])[0], 1, 12)
