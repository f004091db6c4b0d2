"""Notes changes of named checkpoints as random programs make them: a store that takes them equals memory."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.service.durability.stored_server import serving
from tests.service.stores.blocks import checkpoint
from tests.service.stores.places import Open

from statewise.service.session_state import ChangedCheckpoints
from statewise.service.stores import Block, StoredCheckpoint

BIRTHS, NAMES = st.integers(1, 3), st.sampled_from("xy")
PROGRAMS = st.lists(
    st.one_of(
        st.tuples(st.just("make"), BIRTHS, NAMES),
        st.tuples(st.just("make"), BIRTHS, NAMES),
        st.tuples(st.just("drop"), BIRTHS, NAMES),
        st.tuples(st.just("take")),
        st.tuples(st.just("write")),
        st.tuples(st.just("fail"), st.booleans()),
    ),
    max_size=40,
)
Held = dict[tuple[int, str], StoredCheckpoint]


def apply(held: Held, block: Block) -> None:
    """Does to a store what a block says."""
    for key in block.dropped:
        held.pop(key, None)
    held |= {(one.birth, one.name): one for one in block.checkpoints}


@given(program=PROGRAMS)
def test_a_store_gets_what_memory_has_whatever_fails(program: list[tuple[Any, ...]]) -> None:
    changed = ChangedCheckpoints()
    memory: Held = {}
    store: Held = {}
    taken = None
    for number, (call, *details) in enumerate((*program, ("write",), ("take",), ("write",))):
        match call:
            case "make":
                birth, name = details
                if (birth, name) not in memory:
                    one = memory[birth, name] = checkpoint(birth, name, position=number)
                    changed.note_made(one)
            case "drop":
                if memory.pop((details[0], details[1]), None) is not None:
                    changed.note_dropped(details[0], details[1])
            case "take" if taken is None:
                taken = changed.take()
            case "write" if taken is not None:
                apply(store, Block(checkpoints=taken.new, dropped=taken.dropped))
                taken = None
            case "fail" if taken is not None:
                if details[0]:  # the store has it, and the answer was lost
                    apply(store, Block(checkpoints=taken.new, dropped=taken.dropped))
                changed.give_back(taken)
                taken = None
    assert store == memory
    taken = changed.take()
    assert [*taken.new, *taken.dropped] == []


def test_what_no_store_can_know_is_forgotten() -> None:
    changed = ChangedCheckpoints(most=2)
    for _ in range(9):
        changed.note_made(checkpoint(1))
        changed.note_dropped(1, "a")
    changed.note_made(checkpoint(1))
    changed.note_made(checkpoint(2))
    assert not changed.has_room(1)
    changed.note_ended(1)
    assert changed.has_room(1)
    assert not changed.has_room(2)
    taken = changed.take()
    assert (taken.new, taken.dropped) == ([checkpoint(2)], [])
    assert changed.has_room(2)


def test_there_is_room_again_once_the_store_has_them() -> None:
    changed = ChangedCheckpoints(most=3)
    changed.note_made(checkpoint(1))
    changed.note_dropped(2, "a")
    changed.give_back(changed.take())
    assert changed.has_room(1)
    assert not changed.has_room(2)
    changed.note_dropped(1, "a")  # the store may know it
    taken = changed.take()
    assert (list(taken.new), sorted(taken.dropped)) == ([], [(1, "a"), (2, "a")])


@pytest.mark.parametrize("fails", [False, True])
async def test_a_tick_writes_checkpoints_with_their_session(
    repository: Any, open_store: Open, fails: bool
) -> None:
    async with serving(repository, open_store) as server:
        handle = (await server.open("a"))["a"]
        table, ticks = server.dataplane.table, server.stored.checkpoints
        slot = handle & (2**24 - 1)
        one = checkpoint(table.birth_of(slot))
        ticks.named.note_made(one)
        table.touch(slot)
        table.note_changed(table.slots_of(table.handle[[slot]]))
        if fails:
            server.store.refused = {"write"}
            assert not await ticks.tick()
            assert ticks.may_keep(100)
            assert not ticks.may_keep(65_536)
            server.store.refused = set()
        assert await ticks.tick()
        (stored,) = open_store().read([one.birth])
        assert stored is not None
        assert stored.checkpoints == [one]
        ticks.named.note_dropped(one.birth, one.name)
        assert await ticks.tick()
        (stored,) = open_store().read([one.birth])
        assert stored is not None
        assert list(stored.checkpoints) == []
