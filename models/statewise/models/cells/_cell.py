"""What every cell offers, and the products that all of them share.

Nothing here knows an equation of a particular cell. The weights enter the time loop only through
R h; the input products of all steps are made in one call before it, the weight gradients in one after.
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
        """Names of what is carried from step to step, h first."""

    def forward(
        self, weights: Weights, x: Floats, initial: tuple[Floats, ...], workspace: Workspace
    ) -> tuple[tuple[Floats, ...], Tape]:
        """Run T steps.

        Args:
            weights: W, R, b (and bR).
            x: [T, I, B].
            initial: The memories before the first step, each [H, B].
            workspace: Where the arrays of this pass live.

        Returns:
            The memories [T+1, H, B], index 0 being the initial ones, and what `backward` needs.
        """

    def backward(
        self,
        weights: Weights,
        tape: Tape,
        outside: tuple[Floats | None, ...],
        gradients: Weights,
        workspace: Workspace,
        *,
        input_gradient: bool,
    ) -> tuple[Floats | None, tuple[Floats, ...]]:
        """Backpropagation through time (Werbos 1990) over the steps of `forward`.

        Args:
            weights: As given to `forward`.
            tape: From `forward`.
            outside: The loss's gradient by each memory, [T, H, B], not counting what flows through
                later steps; None where there is none.
            gradients: Overwritten with the gradients of the weights.
            workspace: As given to `forward`.
            input_gradient: Whether the gradient by x is wanted.

        Returns:
            The gradients by x [T, I, B] (or None) and by the initial memories [H, B].
        """


def input_products(W: Floats, b: Floats, x: Floats, out: Floats) -> Floats:
    """W x_t + b for every t at once: [G*H, I], [G*H], [T, I, B] -> out [T, G*H, B]."""
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
    """Sums over t and b that every cell has: dW = da x^T, db = da 1, and dR = da h_{t-1}^T.

    Args:
        da: Gradient by the pre-activations, [T, G*H, B].
        x: [T, I, B].
        gradients: W and b are overwritten, R too when `h_before` is given.
        workspace: For the transposed copies, which turn T small products into one large one.
        h_before: h_{t-1}, [T, H, B].

    Returns:
        da as one matrix [G*H, T*B], for sums that a cell has beyond these.
    """
    rows = by_feature(da, "da", workspace)
    np.matmul(rows, by_feature(x, "x", workspace).T, out=gradients["W"])
    np.sum(rows, axis=1, out=gradients["b"])
    if h_before is not None:
        np.matmul(rows, by_feature(h_before, "h", workspace).T, out=gradients["R"])
    return rows


def by_feature(x: Floats, name: str, workspace: Workspace) -> Floats:
    """[T, N, B] -> [N, T*B], contiguous."""
    T, N, B = x.shape
    flat = workspace.empty(f"by_feature.{name}", (N, T, B), x.dtype)
    np.copyto(flat, x.transpose(1, 0, 2))
    return flat.reshape(N, T * B)
