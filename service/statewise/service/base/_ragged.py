"""Rows of unequal length that lie one after another: where they start, and which elements are theirs."""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]


def starts_of(lengths: NDArray[np.integer]) -> Indices:
    """Where each row starts, [rows]."""
    starts = np.zeros(len(lengths), np.intp)
    np.cumsum(lengths[:-1], out=starts[1:])
    return starts


def places_in_row(lengths: NDArray[np.integer]) -> Indices:
    """For every element its place in its own row, [sum(lengths)]: 0, 1, … of each row in turn."""
    return np.arange(int(lengths.sum()), dtype=np.intp) - np.repeat(starts_of(lengths), lengths)


def elements_of(rows: Indices, lengths: NDArray[np.integer]) -> Indices:
    """Indices of the elements of some rows, in the order of `rows`; `lengths` are those of all rows."""
    own = lengths[rows]
    return np.repeat(starts_of(lengths)[rows], own) + places_in_row(own)
