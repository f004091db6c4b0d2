"""Runs the plain recurrent cell, `equations.rnn_step`, over whole sequences.

It has no gates: W, R and b hold one block of rows. phi is tanh, sigmoid or relu. Every step multiplies
the gradient by R^T diag(phi'), so over many steps it vanishes or explodes (Pascanu, Mikolov & Bengio
2013, arXiv:1211.5063).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from statewise.models.base import Floats, Workspace
from statewise.models.cells._cell import Weights, input_products, weight_gradients


@dataclass(frozen=True)
class _Tape:
    x: Floats  # [T, I, B]
    h: Floats  # [T+1, H, B]


@dataclass(frozen=True)
class RNN:
    """A vanilla RNN over whole sequences.

    Attributes:
        activation: tanh, sigmoid or relu.
    """

    activation: str = "tanh"

    gates = ("h",)
    memories = ("h",)

    def forward(
        self, weights: Weights, x: Floats, initial: tuple[Floats, ...], workspace: Workspace
    ) -> tuple[tuple[Floats, ...], _Tape]:
        """Computes `equations.rnn_step` for every t, in place; see `Cell.forward`."""
        T, _, B = x.shape
        R = weights["R"]
        H = R.shape[1]
        h = workspace.empty("h", (T + 1, H, B), x.dtype)
        product = workspace.empty("product", (H, B), x.dtype)

        h[0] = initial[0]
        input_products(weights["W"], weights["b"], x, out=h[1:])
        for t in range(T):
            a = h[t + 1]
            a += np.matmul(R, h[t], out=product)  # a = W x_t + R h_{t-1} + b       [H, B]
            self._activate(a)  # h_t = phi(a)                                       [H, B]
        return (h,), _Tape(x, h)

    def backward(
        self,
        weights: Weights,
        tape: _Tape,
        upstream: tuple[Floats | None, ...],
        gradients: Weights,
        workspace: Workspace,
        *,
        input_gradient: bool,
    ) -> tuple[Floats | None, tuple[Floats, ...]]:
        """Backpropagates through time; see `Cell.backward`.

        da       = dh * phi'(a)
        dh_{t-1} = R^T da  (+ the upstream gradient)
        """
        x, h = tape.x, tape.h
        T, _, B = x.shape
        H, dtype = weights["R"].shape[1], x.dtype
        (dh_upstream,) = upstream
        da = self._slope(h[1:], workspace.empty("da", (T, H, B), dtype))
        dh = np.zeros((H, B), dtype)
        R_T = weights["R"].T
        for t in reversed(range(T)):
            if dh_upstream is not None:
                dh += dh_upstream[t]
            da[t] *= dh
            np.matmul(R_T, da[t], out=dh)  # dh_{t-1}

        weight_gradients(da, x, gradients, workspace, h_before=h[:-1])
        dx = np.matmul(weights["W"].T, da) if input_gradient else None
        return dx, (dh,)

    def _activate(self, a: Floats) -> None:
        """Computes phi, in place."""
        match self.activation:
            case "tanh":
                np.tanh(a, out=a)
            case "sigmoid":
                a *= 0.5
                np.tanh(a, out=a)
                a *= 0.5
                a += 0.5
            case "relu":
                np.maximum(a, 0, out=a)

    def _slope(self, h: Floats, out: Floats) -> Floats:
        """Computes phi'(a), written with h = phi(a)."""
        match self.activation:
            case "tanh":
                np.multiply(h, h, out=out)
                np.subtract(1, out, out=out)
            case "sigmoid":
                np.subtract(1, h, out=out)
                out *= h
            case "relu":
                np.greater(h, 0, out=out)
        return out
