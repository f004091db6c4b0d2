"""Indexes and splits rows of unequal length that are stored one after another."""

import numpy as np
from numpy.typing import NDArray


def elements_of(rows: NDArray[np.intp], steps: NDArray[np.uint32]) -> NDArray[np.intp]:
    """Computes the indices of the time steps of some rows, in the order of `rows`.

    Args:
        rows: indices of rows, [chosen].
        steps: time steps of every row, [all].
    """
    ends = np.cumsum(steps, dtype=np.intp)
    chosen = steps[rows].astype(np.intp)
    begins = ends[rows] - chosen
    before = np.cumsum(chosen) - chosen
    elements: NDArray[np.intp] = np.arange(int(chosen.sum())) + np.repeat(begins - before, chosen)
    return elements


def row_bytes(column: bytes, steps: NDArray[np.uint32], *, per_step: bool) -> list[bytes]:
    """Splits a column into its rows.

    Args:
        column: the rows' bytes, one after another.
        steps: time steps of every row.
        per_step: whether a row has one value a time step (True) or a single value.
    """
    lengths = steps.astype(np.int64) if per_step else np.ones(len(steps), np.int64)
    total = int(lengths.sum())
    size = len(column) // total if total else 0
    ends = np.cumsum(lengths) * size
    return [
        column[begin:end] for begin, end in zip((ends - lengths * size).tolist(), ends.tolist(), strict=True)
    ]
