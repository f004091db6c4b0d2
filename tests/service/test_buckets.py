"""Sorts sequences of unequal length into buckets: every row once, and little padding."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from statewise.service.inputs import buckets_of_like_length


@given(st.lists(st.integers(1, 2_000), min_size=1, max_size=700))
def test_buckets_hold_every_row_once_and_little_padding(lengths: list[int]) -> None:
    sizes = np.array(lengths, np.uint32)
    buckets = list(buckets_of_like_length(np.arange(len(lengths)), sizes))
    assert sorted(itertools.chain.from_iterable(bucket.tolist() for bucket in buckets)) == list(
        range(len(lengths))
    )
    for bucket in buckets:
        own = sizes[bucket].astype(int)
        assert len(bucket) <= 256
        assert own.max() * len(own) <= 1.25 * own.sum()
