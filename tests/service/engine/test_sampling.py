"""Compares the service's random numbers and draws with the training side's, bit for bit.

The service has code of its own for both because it may not import the training side.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statewise import models
from statewise.service.engine import _sampling as sampling

SEEDS = st.integers(0, 2**64 - 1)


@given(st.lists(st.tuples(SEEDS, st.integers(0, 2**40)), min_size=1, max_size=5), st.integers(1, 50))
def test_numbers_are_the_training_sides(rows: list[tuple[int, int]], count: int) -> None:
    seeds, positions = (np.array(column, np.uint64) for column in zip(*rows, strict=True))
    found = sampling.uniform_numbers(seeds, positions, count)
    for row, (seed, position) in enumerate(rows):
        assert found[:, row].tobytes() == models.uniform_numbers(seed, position, count).tobytes()


@pytest.mark.parametrize("scale", [0.1, 3, 40])
def test_draws_are_the_training_sides(random: np.random.Generator, scale: float) -> None:
    logits = scale * random.standard_normal((2_000, 30))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
    p[::7, :5] = p[::7, 5:6]  # equals
    p[::11, ::3] = 0
    numbers = random.random(2_000, np.float32)
    numbers[::13] = np.nextafter(np.float32(1), np.float32(0))
    temperature = random.choice([0, 0.05, 0.5, 1, 3], 2_000).astype(np.float32)
    top_k = random.choice([0, 1, 3, 29, 30, 90], 2_000).astype(np.int32)
    expected = models.draw_tokens(p, numbers, temperature=temperature, top_k=top_k)
    found = sampling.draw_tokens(p, numbers, temperature, top_k)
    assert found.tolist() == expected.tolist()
    assert (np.take_along_axis(p, found[:, None], axis=1) > 0).all()
    for row in range(0, 2_000, 97):
        one = slice(row, row + 1)
        assert sampling.draw_tokens(p[one], numbers[one], temperature[one], top_k[one]) == found[row]
