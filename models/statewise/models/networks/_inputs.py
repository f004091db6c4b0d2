"""Prepares a caller's arrays for the first layer: checks them, embeds tokens, transposes.

It does not normalise; checkpoints do. Everything past a row's end becomes zero.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from statewise.models.base import Array, Floats, Integers, Workspace
from statewise.models.networks._padding import Padding
from statewise.models.networks._parameters import Parameters
from statewise.models.networks._spec import NetworkSpec


def checked_inputs(spec: NetworkSpec, x: Array, lengths: npt.ArrayLike | None) -> tuple[Array, Padding]:
    """Checks inputs; returns them as an array, and their padding.

    Raises:
        ValueError: Rank, size, dtype or lengths do not fit the spec, naming expected and got.
    """
    x = np.asarray(x)
    if spec.embedding_size:
        if x.ndim != 2 or not np.issubdtype(x.dtype, np.integer):
            raise ValueError(f"x: expected integer tokens [T, B], got {x.dtype} with shape {x.shape}")
    elif x.ndim != 3 or x.shape[2] != spec.input_size:
        raise ValueError(f"x: expected shape [T, B, {spec.input_size}], got {x.shape}")
    if not np.issubdtype(x.dtype, np.integer) and not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"x: expected numbers, got {x.dtype}")
    T, B = x.shape[:2]
    if T == 0 or B == 0:
        raise ValueError(f"x: expected at least one step and one row, got shape {x.shape}")
    if spec.call_shape == "one_to_one" and T != 1:
        raise ValueError(f"x: expected one step for a one-to-one network, got {T}")
    given: Integers | None = None
    if lengths is not None:
        given = np.asarray(lengths)
        if given.shape != (B,) or not np.issubdtype(given.dtype, np.integer):
            raise ValueError(f"lengths: expected {B} integers, got {given.dtype} with shape {given.shape}")
        if given.min() < 1 or given.max() > T:
            raise ValueError(f"lengths: expected 1 to {T}, got {given.min()} to {given.max()}")
    return x, Padding(T, B, given)


def input_columns(
    spec: NetworkSpec, parameters: Parameters, x: Array, padding: Padding, workspace: Workspace
) -> Floats:
    """Computes the first layer's inputs, [T, I, B]: tokens embedded, zero past each row's end.

    Raises:
        ValueError: A token is outside the vocabulary.
    """
    T, B = x.shape[:2]
    if spec.embedding_size:
        tokens = x
        if padding.lengths is not None:
            tokens = np.where(np.arange(T)[:, None] < padding.lengths, x, 0)
        if tokens.min() < 0 or tokens.max() >= spec.input_size:
            wrong = tokens[(tokens < 0) | (tokens >= spec.input_size)][0]
            raise ValueError(f"x: expected tokens 0 to {spec.input_size - 1}, got {wrong}")
        x = parameters["embedding.E"][tokens]
    columns = workspace.empty(
        "columns", (T, spec.embedding_size or spec.input_size, B), parameters.flat.dtype
    )
    np.copyto(columns, x.swapaxes(1, 2), casting="same_kind")
    padding.zero(columns)
    return columns


def embedding_gradient(tokens: Integers, d_x: Floats, out: Floats) -> None:
    """Backpropagates through the embedding: dE = one_hot(tokens)^T dx.

    Args:
        tokens: [T, B]; past a row's end they may be anything.
        d_x: Gradient with respect to their vectors, [T, E, B], zero past each row's end.
        out: dE [K, E], overwritten.
    """
    K, E = out.shape
    # Past a row's end the gradient is zero, so an invalid token there may count for any valid row.
    flat = np.clip(tokens.ravel(), 0, K - 1)
    # A product with a one-hot matrix sums faster than `np.add.at`.
    one_hot = np.zeros((K, flat.size), d_x.dtype)
    one_hot[flat, np.arange(flat.size)] = 1
    np.matmul(one_hot, d_x.transpose(0, 2, 1).reshape(-1, E), out=out)
