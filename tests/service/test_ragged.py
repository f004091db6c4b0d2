"""Ragged columns agree with a list of rows; padded batches give back what was put into them."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from statewise.service.base import (
    RaggedColumns,
    blank_padded,
    elements_of,
    offsets_in_rows,
    put_padded,
    starts_of,
    take_padded,
)
from statewise.wire import TensorSpec

TENSORS = (
    TensorSpec("tokens", "int64", ()),
    TensorSpec("x", "float32", (2,)),
    TensorSpec("row", "float32", (3,), per_step=False, default=0.5),
)
Row = Sequence[np.ndarray]
lengths_lists = st.lists(st.integers(1, 9), min_size=1, max_size=12)


def make(lengths: Sequence[int], *, start: int = 0) -> RaggedColumns:
    """Columns whose elements are all different, apart from columns of another start."""
    sizes = np.array(lengths, np.uint32)
    steps, rows = int(sizes.sum()), len(sizes)
    arrays: list[np.ndarray] = [
        np.arange(start, start + steps),
        np.arange(start, start + 2 * steps, dtype=np.float32).reshape(steps, 2),
        np.arange(start, start + 3 * rows, dtype=np.float32).reshape(rows, 3),
    ]
    return RaggedColumns(TENSORS, arrays, sizes)


def rows_of(columns: RaggedColumns) -> list[Row]:
    """The same as a list of rows, cut by plain counting."""
    assert columns.lengths is not None
    ends = np.cumsum(columns.lengths)
    tokens, x, row = columns.arrays
    return [
        (tokens[end - size : end], x[end - size : end], row[number])
        for number, (end, size) in enumerate(zip(ends.tolist(), columns.lengths.tolist(), strict=True))
    ]


def assert_rows(found: RaggedColumns, expected: Sequence[Row]) -> None:
    got = rows_of(found)
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        for left, right in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.data())
def test_elements_are_those_of_the_rows(lengths: list[int], data: st.DataObject) -> None:
    sizes = np.array(lengths, np.uint32)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=9))
    starts = [sum(lengths[:row]) for row in range(len(lengths))]
    assert starts_of(sizes).tolist() == starts
    assert offsets_in_rows(sizes).tolist() == [offset for size in lengths for offset in range(size)]
    expected = [starts[row] + offset for row in rows for offset in range(lengths[row])]
    assert elements_of(np.array(rows, np.intp), sizes).tolist() == expected


@given(lengths_lists, st.data())
def test_taking_rows_takes_all_that_is_theirs(lengths: list[int], data: st.DataObject) -> None:
    columns = make(lengths)
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=9))
    taken = columns.take(np.array(chosen, np.intp))
    assert_rows(taken, [rows_of(columns)[row] for row in chosen])
    assert taken.nbytes == sum(array.nbytes for row in rows_of(taken) for array in row)


def test_rows_of_one_step_each_need_no_lengths() -> None:
    columns = RaggedColumns(TENSORS, make([1, 1, 1]).arrays, None)
    taken = columns.take(np.array([2, 0]))
    assert taken.lengths is None
    assert taken.named["tokens"].tolist() == [2, 0]
    assert taken.named["row"].tolist() == [[6, 7, 8], [0, 1, 2]]
    joined = RaggedColumns.concatenate([columns, taken])
    assert joined.lengths is None
    assert joined.named["x"].tolist() == [[0, 1], [2, 3], [4, 5], [4, 5], [0, 1]]


@given(st.lists(lengths_lists, min_size=1, max_size=4))
def test_concatenating_keeps_rows_and_order(parts: list[list[int]]) -> None:
    columns = [make(lengths, start=100 * number) for number, lengths in enumerate(parts)]
    assert_rows(RaggedColumns.concatenate(columns), [row for part in columns for row in rows_of(part)])


@given(lengths_lists, st.data())
def test_padded_rows_come_back_as_they_were(lengths: list[int], data: st.DataObject) -> None:
    columns = make(lengths)
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=9, unique=True))
    rows = np.array(chosen, np.intp)
    tokens, x, row = columns.pad(rows)
    longest = max(lengths[number] for number in chosen)
    assert tokens.shape == (longest, len(chosen))
    assert x.shape == (longest, len(chosen), 2)
    assert row.shape == (len(chosen), 3)
    for column, number in enumerate(chosen):
        last = rows_of(columns)[number][0][-1]
        assert (tokens[lengths[number] :, column] == last).all()
    order = np.array(data.draw(st.permutations(range(len(chosen)))), np.intp)
    back = RaggedColumns.unpad(TENSORS, [tokens, x, row], np.array(lengths, np.uint32)[rows][order], order)
    assert_rows(back, [rows_of(columns)[chosen[column]] for column in order.tolist()])


@given(st.lists(st.integers(0, 4), max_size=5))
def test_blank_rows_hold_defaults(lengths: list[int]) -> None:
    blank = RaggedColumns.blank(TENSORS, np.array(lengths, np.uint32))
    assert [array.dtype.name for array in blank.arrays] == ["int64", "float32", "float32"]
    assert [array.shape for array in blank.arrays] == [
        (sum(lengths),),
        (sum(lengths), 2),
        (len(lengths), 3),
    ]
    assert all((array == value).all() for array, value in zip(blank.arrays, (0, 0, 0.5), strict=True))


def test_what_is_put_into_a_padded_batch_is_taken_out_of_it() -> None:
    batch = blank_padded(TENSORS, 4, 6)
    assert [array.shape for array in batch] == [(6, 4), (6, 4, 2), (4, 3)]
    assert not any(array.any() for array in batch)
    rows = np.array([3, 1])
    part = make([2, 2]).pad(np.arange(2))
    put_padded(TENSORS, batch, rows, part, begin=3)
    for left, right in zip(take_padded(TENSORS, batch, rows, steps=slice(3, 5)), part, strict=True):
        np.testing.assert_array_equal(left, right)
    for array, size in zip(batch, (4, 8, 6), strict=True):
        assert np.count_nonzero(array) <= size
    tokens, x, row = take_padded(TENSORS, batch, slice(1, 2))
    assert (tokens.shape, x.shape, row.shape) == ((6, 1), (6, 1, 2), (1, 3))
    assert np.shares_memory(x, batch[1])
