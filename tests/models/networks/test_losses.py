"""Compares losses with their definitions; test_gradients.py checks their gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from statewise.models import binary_cross_entropy, cross_entropy, squared_error

Array = npt.NDArray[np.floating[Any]]


def test_cross_entropy_is_the_negative_log_probability() -> None:
    scores = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    loss, _ = cross_entropy(scores + 7, np.array([0, 2]))
    assert loss == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2)


def test_cross_entropy_survives_huge_scores() -> None:
    loss, gradient = cross_entropy(np.array([[1e4, -1e4]], np.float32), np.array([1]))
    assert loss == pytest.approx(2e4)
    np.testing.assert_allclose(gradient, [[1, -1]])


def test_smoothing_spreads_the_target() -> None:
    p = np.array([0.7, 0.2, 0.1])
    loss, _ = cross_entropy(np.log(p)[None], np.array([0]), smoothing=0.3)
    assert loss == pytest.approx(-(np.array([0.8, 0.1, 0.1]) @ np.log(p)))


def test_binary_cross_entropy_is_the_negative_log_probability() -> None:
    scores = np.log(np.array([[0.8 / 0.2, 0.3 / 0.7]]))
    loss, _ = binary_cross_entropy(scores, np.array([[1.0, 0.0]]))
    assert loss == pytest.approx(-(np.log(0.8) + np.log(0.7)) / 2)


def test_squared_error_is_half_the_mean_square() -> None:
    loss, gradient = squared_error(np.array([[1.0, 3.0]]), np.array([[0.0, 1.0]]))
    assert loss == pytest.approx(0.5 * (1 + 4) / 2)
    np.testing.assert_allclose(gradient, [[0.5, 1.0]])


@pytest.mark.parametrize("loss", [cross_entropy, binary_cross_entropy, squared_error])
def test_entries_that_do_not_count_change_nothing(loss: Callable[..., tuple[float, Array]]) -> None:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((4, 2, 3))
    counted = np.array([[1, 1], [1, 0], [1, 0], [0, 0]], bool)
    targets = rng.integers(0, 3, (4, 2)) if loss is cross_entropy else rng.random((4, 2, 3))
    value, gradient = loss(scores, targets, counted)
    flat, _ = loss(scores[counted], targets[counted])
    assert value == pytest.approx(flat)
    assert (gradient[~counted] == 0).all()
    with pytest.raises(ValueError, match="at least one entry"):
        loss(scores, targets, np.zeros((4, 2), bool))
