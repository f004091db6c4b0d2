"""Holds rows of unequal length side by side, padded to the longest: the layout of runs.

Per-step tensors are [T, rows, ...], others [rows, ...]. Past a row's length the elements mean nothing.
"""

from collections.abc import Sequence

import numpy as np

from statewise.service.base._types import Array, Indices
from statewise.wire import DTYPES, TensorSpec

_ALL = slice(None)


def padded_shape(tensor: TensorSpec, rows: int, steps: int) -> tuple[int, ...]:
    """Returns the shape of a tensor for so many rows and time steps."""
    return (steps, rows, *tensor.shape) if tensor.per_step else (rows, *tensor.shape)


def blank_padded(tensors: Sequence[TensorSpec], rows: int, steps: int) -> list[Array]:
    """Makes arrays of zeros for so many rows and time steps."""
    return [np.zeros(padded_shape(tensor, rows, steps), DTYPES[tensor.dtype]) for tensor in tensors]


def take_padded(
    tensors: Sequence[TensorSpec],
    arrays: Sequence[Array],
    rows: slice | Indices,
    *,
    steps: slice = _ALL,
) -> list[Array]:
    """Returns some rows and time steps of the arrays; views where `rows` is a slice."""
    return [
        array[steps, rows] if tensor.per_step else array[rows]
        for tensor, array in zip(tensors, arrays, strict=True)
    ]


def put_padded(
    tensors: Sequence[TensorSpec],
    kept: Sequence[Array],
    rows: slice | Indices,
    arrays: Sequence[Array],
    *,
    begin: int = 0,
) -> None:
    """Writes the arrays of some rows into `kept`, from time step `begin` on."""
    for tensor, whole, array in zip(tensors, kept, arrays, strict=True):
        if tensor.per_step:
            whole[begin : begin + len(array), rows] = array
        else:
            whole[rows] = array
