"""Stores states of sessions in an arena, and computes digests of requests."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.arrays import Array

from statewise.service.session_state import StateArena, digest_rows
from statewise.wire import StatePair


def test_an_initial_state_can_differ_from_element_to_element() -> None:
    arena = StateArena([StatePair("s", "t", "float32", (1, 2), initial=(0.0, -1e30))], capacity=1)

    (state,) = arena.read(2 * arena.take_row())

    np.testing.assert_array_equal(state, np.array([[0, -1e30]], np.float32))
    np.testing.assert_array_equal(arena.initial(2)[0], np.array([[[0, -1e30]]] * 2, np.float32))


def test_an_arena_hands_out_initial_states_and_knows_when_it_is_full() -> None:
    arena = StateArena([StatePair("s", "t", "float32", (2,), initial=0.5)], capacity=2)
    first, second = arena.take_row(), arena.take_row()
    with pytest.raises(MemoryError):
        arena.take_row()
    arena.scatter(np.array([2 * first, 2 * second]), [np.array([[1, 2], [3, 4]], np.float32)])
    arena.give_back(first)
    again = arena.take_row()
    assert again == first
    assert arena.gather(np.array([2 * first, 2 * second]))[0].tolist() == [[0.5, 0.5], [3, 4]]
    assert arena.bytes_per_session == 16


def test_an_arena_that_no_address_range_holds_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="bytes of addresses cannot be reserved"):
        StateArena([StatePair("s", "t", "float32", (2**50,))], capacity=2**20)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.sampled_from(["float32", "float64", "int64", "uint8"]),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_digests_follow_rows_not_batches_and_see_every_element(
    lengths: list[int], dtype: str, width: int, random: Random
) -> None:
    steps = np.array(lengths, np.uint32)
    values = np.array([random.randrange(200) for _ in range(sum(lengths) * width)], dtype).reshape(-1, width)
    rows = np.split(values, np.cumsum(lengths)[:-1])

    def digest(arrays: list[Array]) -> list[int]:
        sizes = np.array([len(array) for array in arrays], np.uint32)
        return [int(one) for one in digest_rows([np.concatenate(arrays)], per_step=[True], steps=sizes)]

    together = digest_rows([values], per_step=[True], steps=steps).tolist()
    assert together == [digest([row])[0] for row in rows]
    if set(lengths) == {1}:
        assert digest_rows([values], per_step=[True], steps=None).tolist() == together
    chosen = random.randrange(len(rows))
    changed = rows[chosen].copy()
    place = random.randrange(changed.size)
    changed.flat[place] += 1
    assert digest([changed])[0] != together[chosen]
