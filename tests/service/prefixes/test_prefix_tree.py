"""Keeps the nodes of a tree within their budget, the most useful ones longest."""

import gc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.arrays import Array

from statewise.service.scheduling.prefixes import PrefixBudget, PrefixTree, Reached
from statewise.wire import CallShape, ModelSpec, StatePair, TensorSpec

CHUNK = 8
STATE_BYTES = 4 * 100


def spec(*, per_step: bool) -> ModelSpec:
    return ModelSpec(
        inputs=(TensorSpec("x", "int32", ()),),
        outputs=(TensorSpec("y", "float32", (4,), per_step=per_step),),
        state=(StatePair("s", "t", "float32", (100,)),),
        call_shapes=(CallShape.MANY_TO_MANY if per_step else CallShape.MANY_TO_ONE,),
        lengths="lengths",
    )


class Rows:
    """A tree of rows of tokens, whose states say what they are the states of.

    Args:
        limit_bytes: Of the budget.
        per_step: Whether the graph has an output a step.
    """

    def __init__(
        self, limit_bytes: int, *, per_step: bool = False, budget: PrefixBudget | None = None
    ) -> None:
        self.budget = budget or PrefixBudget(limit_bytes)
        self.per_step = per_step
        self.tree = PrefixTree(
            self.budget,
            spec(per_step=per_step),
            digest="d",
            chunk_steps=CHUNK,
            by_chunk=True,
            shared=False,
        )

    def keys(self, x: Sequence[int], *, owner: int = 1) -> Sequence[bytes]:
        chunks = self.tree.chunks_of(len(x))
        row = self.tree.row_hash(
            [np.array(x, np.int32)], [np.zeros(100, np.float32)], owner=owner, steps=len(x)
        )
        return row.keys(chunks)

    def keep(self, x: Sequence[int], depth: int, *, after: int = 0) -> None:
        """Keeps the state of a row behind `depth` chunks, and outputs from `after` on."""
        state: list[Array] = [np.full(100, sum(x[: depth * CHUNK]), np.float32)]
        outputs = None
        if self.per_step:
            outputs = [np.repeat(np.array(x[after * CHUNK : depth * CHUNK], np.float32)[:, None], 4, axis=1)]
        last = [] if self.per_step else [np.zeros(4, np.float32)]
        self.tree.keep_chunks(self.keys(x), Reached(after, depth, depth * CHUNK, state, last, outputs))

    def begin(self, x: Sequence[int], *, use: bool = True) -> int:
        """Chunks that a row need not compute; the states and outputs are those of the row."""
        found, known = self.tree.find(self.keys(x), outputs=self.per_step)
        if not found:
            return 0
        assert found[-1].depth <= known
        assert found[-1].state is not None
        assert (found[-1].state[0] == sum(x[: found[-1].steps])).all()
        for node in found if self.per_step else ():
            assert node.outputs is not None
            own = np.array(x[node.steps - CHUNK : node.steps], np.float32)
            assert (node.outputs[0] == own[:, None]).all()
        if use:
            self.tree.use(found)
        return found[-1].depth


def row(*chunks: int) -> list[int]:
    """Tokens of a row whose chunks are those numbers, each over and over."""
    return [number for number in chunks for _ in range(CHUNK)]


@pytest.mark.parametrize("per_step", [False, True])
def test_a_row_starts_from_the_longest_beginning_with_a_state(per_step: bool) -> None:
    rows = Rows(1_000_000, per_step=per_step)
    rows.keep(row(1, 2, 3, 4), 2)
    rows.keep(row(1, 2, 3, 4), 4, after=2)
    assert rows.begin(row(1, 2, 3, 4, 5)) == 4
    assert rows.begin(row(1, 2, 3, 9)) == 2
    assert rows.begin(row(1, 9)) == 0
    assert rows.begin(row(2, 1)) == 0
    assert rows.tree.find(rows.keys(row(1, 2, 3, 9)), outputs=per_step)[1] == 3


def test_a_flood_of_beginnings_that_nobody_repeats_leaves_what_is_used() -> None:
    rows = Rows(40 * 1_200)
    rows.keep(row(1, 2, 3), 3)
    assert rows.begin(row(1, 2, 3)) == 3
    for number in range(1_000):
        rows.keep(row(100 + number), 1)
        assert rows.budget.used_bytes <= rows.budget.limit_bytes
        if number % 100 == 99:
            assert rows.begin(row(1, 2, 3)) == 3
    assert rows.budget.evictions > 900
    # Worth ages: what nobody asks for any more goes in the end.
    for number in range(3_000):
        rows.keep(row(10_000 + number), 1)
    assert rows.begin(row(1, 2, 3), use=False) == 0


def test_an_inner_node_goes_before_a_leaf_that_is_used() -> None:
    rows = Rows(20 * 1_400)
    for depth in (1, 2, 3):
        rows.keep(row(1, 2, 3), depth, after=depth - 1)
    assert rows.begin(row(1, 2, 3)) == 3
    for number in range(25):
        rows.keep(row(100 + number), 1)
    assert rows.begin(row(1, 9), use=False) == 0
    assert rows.begin(row(1, 2, 3), use=False) == 3


def test_where_outputs_are_needed_a_leaf_goes_before_what_is_in_front_of_it() -> None:
    rows = Rows(20 * 1_500, per_step=True)
    for depth in (1, 2, 3):
        rows.keep(row(1, 2, 3), depth, after=depth - 1)
    rows.begin(row(1, 2, 9))
    for number in range(200):
        rows.keep(row(100 + number), 1)
        left = rows.begin(row(1, 2, 3), use=False)
        known = [rows.tree.has_begun(key) for key in rows.keys(row(1, 2, 3))]
        assert known == sorted(known, reverse=True)
    assert left < 3


@given(
    limit=st.integers(0, 20_000),
    per_step=st.booleans(),
    program=st.lists(
        st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.booleans()), max_size=40
    ),
)
def test_random_rows_stay_within_the_budget_and_are_never_mixed_up(
    limit: int, per_step: bool, program: list[tuple[list[int], bool]]
) -> None:
    rows = Rows(limit, per_step=per_step)
    for chunks, keeps in program:
        x = row(*chunks)
        most = rows.tree.chunks_of(len(x))
        begin = rows.begin(x)
        if keeps and most > begin:
            rows.keep(x, most, after=begin)
        assert rows.budget.used_bytes <= limit
        assert rows.budget.nodes == len(rows.tree)
    before = rows.budget
    del rows
    gc.collect()
    assert (before.used_bytes, before.nodes) == (0, 0)


def test_trees_share_one_budget_and_free_their_bytes() -> None:
    first = Rows(20 * 1_200)
    second = Rows(0, budget=first.budget)
    for number in range(10):
        first.keep(row(number), 1)
    used = first.budget.used_bytes
    for number in range(30):
        second.keep(row(number), 1)
    assert first.budget.used_bytes <= first.budget.limit_bytes
    assert len(first.tree) < 10  # those of the other tree came later and are worth as much
    assert second.begin(row(29)) == 1
    budget = first.budget
    del second
    gc.collect()
    assert budget.used_bytes < used
    assert budget.nodes == len(first.tree)


def test_making_room_looks_at_a_bounded_number_of_nodes() -> None:
    rows = Rows(1_000 * 1_200)
    for number in range(1_000):
        rows.keep(row(number), 1)
    full = len(rows.tree)
    for number in range(1_000):
        rows.begin(row(number))  # every node is worth more than its place in the order says
    refused = 0
    for number in range(100):
        rows.keep(row(5_000 + number), 1)
        refused += rows.begin(row(5_000 + number), use=False) == 0
    assert 0 < refused < 100  # each look mends 64 places, so that room is made in the end
    assert len(rows.tree) <= full
    assert rows.budget.used_bytes <= rows.budget.limit_bytes
