"""Differentiates functions by central differences: the oracle of all gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]


def central_differences(function: Callable[[], float], at: Array, *, width: float = 1e-5) -> Array:
    """The slope of `function` with respect to each entry of `at`, which is changed in place and restored."""
    slope = np.empty_like(at)
    for index in np.ndindex(at.shape):
        value = at[index]
        at[index] = value + width
        above = function()
        at[index] = value - width
        below = function()
        at[index] = value
        slope[index] = (above - below) / (2 * width)
    return slope


def assert_gradients_agree(analytic: dict[str, Array], numeric: dict[str, Array]) -> None:
    """Relative to each entry, or to a thousandth of the largest where an entry is smaller: within 1e-6."""
    largest = max(float(np.abs(value).max()) for value in analytic.values())
    assert largest > 0
    for name, value in analytic.items():
        scale = np.maximum(np.abs(value) + np.abs(numeric[name]), 1e-3 * largest)
        assert (np.abs(value - numeric[name]) < 1e-6 * scale).all(), name
