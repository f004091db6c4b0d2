"""Defines the interface of cells and computes the matrix products that all cells share.

It contains no cell's equation. Inside the time loop cells multiply by R alone: W x of all steps is computed
in one call before the loop, the weight gradients in one call after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np

from statewise.models.base import Floats, Workspace

# W [G*H, I], R [G*H, H], b [G*H], and bR [H] for the reset-after GRU.
Weights: TypeAlias = Mapping[str, Floats]
Tape: TypeAlias = Any


class Cell(Protocol):
    """One recurrent layer in one direction, over whole sequences."""

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the blocks of rows in W, R and b."""

    @property
    def memories(self) -> tuple[str, ...]:
        """Names of the arrays carried from step to step, h first."""

    def forward(
        self, weights: Weights, x: Floats, initial: tuple[Floats, ...], workspace: Workspace
    ) -> tuple[tuple[Floats, ...], Tape]:
        """Runs T steps.

        Args:
            weights: W, R, b (and bR).
            x: [T, I, B].
            initial: The memories before the first step, each [H, B].
            workspace: Scratch memory that holds the arrays of this pass.

        Returns:
            The memories [T+1, H, B], index 0 being the initial ones, and what `backward` needs.
        """

    def backward(
        self,
        weights: Weights,
        tape: Tape,
        upstream: tuple[Floats | None, ...],
        gradients: Weights,
        workspace: Workspace,
        *,
        input_gradient: bool,
    ) -> tuple[Floats | None, tuple[Floats, ...]]:
        """Backpropagates through time (Werbos 1990) over the steps of `forward`.

        Args:
            weights: As given to `forward`.
            tape: From `forward`.
            upstream: Gradients with respect to each memory, [T, H, B], from outside the cell: without
                the share that flows through later steps. None for zero.
            gradients: Overwritten with the gradients of the weights.
            workspace: As given to `forward`.
            input_gradient: Whether to compute the gradient with respect to x.

        Returns:
            The gradients with respect to x [T, I, B] (or None) and to the initial memories [H, B].
        """


def input_products(W: Floats, b: Floats, x: Floats, out: Floats) -> Floats:
    """Computes W x_t + b for every t at once: [G*H, I], [G*H], [T, I, B] -> out [T, G*H, B]."""
    np.matmul(W, x, out=out)
    out += b[:, None]
    return out


def weight_gradients(
    da: Floats,
    x: Floats,
    gradients: Weights,
    workspace: Workspace,
    *,
    h_before: Floats | None = None,
) -> Floats:
    """Computes the sums over t and b that every cell has: dW = da x^T, db = da 1, dR = da h_{t-1}^T.

    Args:
        da: Gradient with respect to the pre-activations, [T, G*H, B].
        x: [T, I, B].
        gradients: W and b are overwritten, R too when `h_before` is given.
        workspace: For transposed copies, which replace T small products by one large one.
        h_before: h_{t-1}, [T, H, B].

    Returns:
        da as one matrix [G*H, T*B], for further sums of a cell.
    """
    rows = by_feature(da, "da", workspace)
    np.matmul(rows, by_feature(x, "x", workspace).T, out=gradients["W"])
    np.sum(rows, axis=1, out=gradients["b"])
    if h_before is not None:
        np.matmul(rows, by_feature(h_before, "h", workspace).T, out=gradients["R"])
    return rows


def by_feature(x: Floats, name: str, workspace: Workspace) -> Floats:
    """Transposes [T, N, B] to [N, T*B], contiguous."""
    T, N, B = x.shape
    flat = workspace.empty(f"by_feature.{name}", (N, T, B), x.dtype)
    np.copyto(flat, x.transpose(1, 0, 2))
    return flat.reshape(N, T * B)
