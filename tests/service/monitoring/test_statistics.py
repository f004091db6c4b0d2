"""Counts values into buckets, and reads percentiles from them."""

import numpy as np
import pytest

from statewise.service.telemetry import ROWS, SECONDS, Histogram


def test_bounds_are_inclusive_and_the_last_bucket_takes_the_rest() -> None:
    histogram = Histogram((1.0, 2.0, 4.0))
    for value in (0.5, 1.0, 1.5, 2.0, 4.0, 4.1, 100.0):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1, 2]
    assert histogram.count == 7
    assert histogram.total == pytest.approx(113.1)


def test_a_percentile_is_within_a_tenth_of_the_true_one() -> None:
    values = np.random.default_rng(3).lognormal(np.log(0.003), 1.5, 20_000)
    histogram = Histogram(SECONDS)
    for value in values.tolist():
        histogram.observe(value)
    for share in (0.05, 0.5, 0.9, 0.99):
        assert histogram.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.1)


def test_a_difference_is_what_came_in_between() -> None:
    histogram = Histogram(SECONDS)
    assert histogram.quantile(0.5) == 0.0
    histogram.observe(1.0)
    earlier = histogram.copy()
    histogram.observe(0.001)
    assert (histogram - earlier).count == 1
    assert (histogram - earlier).quantile(1.0) == 0.001
    assert (histogram + earlier).count == 3
    assert earlier.count == 1


def test_what_no_bucket_bounds_counts_as_the_highest_bound() -> None:
    histogram = Histogram(ROWS)
    histogram.observe(1e9)
    assert histogram.quantile(0.5) == ROWS[-1]
