"""Reads the positions of states that callers give, one for all or one for each."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.client.values import MOST_WHOLE, UnfitError, as_elements, axes_of, check_whole, wrong
from statewise.wire import DTYPES


def check_position(position: Any, count: int | None, *, given: bool) -> None:
    """Raises InvalidInput for anything but positions, and for those of a state that is not given."""
    if read_positions(position, count).any() and not given:
        raise wrong("position", "0 without state=: models begin with nothing consumed", position)


def read_positions(position: Any, count: int | None) -> NDArray[np.uint64]:
    """Reads positions: one number, or with `count` one for each; uint64 [1] or [count]."""
    if count is None or axes_of(position) == 0:
        check_whole("position", position, 0, MOST_WHOLE)
        return np.array([position], np.uint64)
    try:
        positions = as_elements(position, DTYPES["uint64"])
    except UnfitError:
        positions = np.empty(0, np.uint64)
    if positions.shape != (count,):
        raise wrong("position", f"a whole number, or {count} of them", position)
    return positions.copy()
