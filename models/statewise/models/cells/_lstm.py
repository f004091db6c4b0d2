"""Runs the LSTM, `equations.lstm_step`, over whole sequences.

It has no peepholes and no projection. The rows of W, R and b hold the gates i, f, o, g; phi is the
activation of g. From step to step the cell state c is only multiplied by f: on this path gradients survive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from statewise.models.base import Floats, Workspace
from statewise.models.cells._cell import Weights, input_products, weight_gradients


@dataclass(frozen=True)
class _Tape:
    x: Floats  # [T, I, B]
    gates: Floats  # [T, 4H, B]: i, f, o, g after their activations
    h: Floats  # [T+1, H, B]
    c: Floats  # [T+1, H, B]
    tanh_c: Floats  # [T, H, B]


@dataclass(frozen=True)
class LSTM:
    """Long short-term memory over whole sequences.

    Attributes:
        candidate: Activation of the candidate gate, tanh or sigmoid.
    """

    candidate: str = "tanh"

    gates = ("i", "f", "o", "g")
    memories = ("h", "c")

    def forward(
        self, weights: Weights, x: Floats, initial: tuple[Floats, ...], workspace: Workspace
    ) -> tuple[tuple[Floats, ...], _Tape]:
        """Computes `equations.lstm_step` for every t, in place; see `Cell.forward`."""
        T, _, B = x.shape
        H, dtype = weights["R"].shape[1], x.dtype
        h = workspace.empty("h", (T + 1, H, B), dtype)
        c = workspace.empty("c", (T + 1, H, B), dtype)
        tanh_c = workspace.empty("tanh_c", (T, H, B), dtype)
        gates = workspace.empty("gates", (T, 4 * H, B), dtype)
        product = workspace.empty("product", (4 * H, B), dtype)
        written = workspace.empty("written", (H, B), dtype)

        # sigma(a) = (1 + tanh(a / 2)) / 2: with the rows of the sigmoid gates halved beforehand, which
        # is exact in floating point, one tanh serves all four gates of a step.
        S = (3 if self.candidate == "tanh" else 4) * H
        half = np.ones(4 * H, dtype)
        half[:S] = 0.5
        R = weights["R"] * half[:, None]
        input_products(weights["W"] * half[:, None], weights["b"] * half, x, out=gates)

        h[0], c[0] = initial
        i, f, o, g = gates.reshape(T, 4, H, B).swapaxes(0, 1)
        for t in range(T):
            a = gates[t]
            a += np.matmul(R, h[t], out=product)  # a = W x_t + R h_{t-1} + b       [4H, B]
            np.tanh(a, out=a)
            a[:S] *= 0.5
            a[:S] += 0.5  # i, f, o = sigma(a), g = tanh(a)        [H, B] each
            np.multiply(f[t], c[t], out=c[t + 1])
            c[t + 1] += np.multiply(i[t], g[t], out=written)  # c = f c_{t-1} + i g  [H, B]
            np.tanh(c[t + 1], out=tanh_c[t])
            np.multiply(o[t], tanh_c[t], out=h[t + 1])  # h = o tanh(c)              [H, B]
        return (h, c), _Tape(x, gates, h, c, tanh_c)

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

        dh and dc are the gradients with respect to h_t and c_t, later steps included:

            dc   += dh * o (1 - tanh(c_t)^2)
            da_i  = dc * g       * i (1 - i)
            da_f  = dc * c_{t-1} * f (1 - f)
            da_o  = dh * tanh(c) * o (1 - o)
            da_g  = dc * i       * phi'(a_g)
            dc_{t-1} = dc * f
            dh_{t-1} = R^T da  (+ the upstream gradient)
        """
        x, h = tape.x, tape.h
        T, _, B = x.shape
        H, dtype = weights["R"].shape[1], x.dtype
        f = tape.gates[:, H : 2 * H]  # [T, H, B]
        (by_i, by_f, by_o, by_g), by_c = self._factors(tape, workspace)
        dh_upstream, dc_upstream = upstream
        da = workspace.empty("da", (T, 4 * H, B), dtype)
        da_i, da_f, da_o, da_g = da.reshape(T, 4, H, B).swapaxes(0, 1)
        through_h = workspace.empty("through_h", (H, B), dtype)
        dh, dc = np.zeros((H, B), dtype), np.zeros((H, B), dtype)
        R_T = weights["R"].T
        for t in reversed(range(T)):
            if dh_upstream is not None:
                dh += dh_upstream[t]
            if dc_upstream is not None:
                dc += dc_upstream[t]
            dc += np.multiply(dh, by_c[t], out=through_h)
            np.multiply(dc, by_i[t], out=da_i[t])
            np.multiply(dc, by_f[t], out=da_f[t])
            np.multiply(dh, by_o[t], out=da_o[t])
            np.multiply(dc, by_g[t], out=da_g[t])
            dc *= f[t]  # dc_{t-1}
            np.matmul(R_T, da[t], out=dh)  # dh_{t-1}

        weight_gradients(da, x, gradients, workspace, h_before=h[:-1])
        dx = np.matmul(weights["W"].T, da) if input_gradient else None
        return dx, (dh, dc)

    def _factors(self, tape: _Tape, workspace: Workspace) -> tuple[Floats, Floats]:
        """The factors of dc and dh in `backward`; they need no later step and are computed for all t at once.

        Returns:
            dc/da_i, dc/da_f, dh/da_o and dc/da_g, [4, T, H, B]; dh/dc, [T, H, B].
        """
        c, tanh_c, gates = tape.c, tape.tanh_c, tape.gates
        T, H, B = tanh_c.shape
        i, _, o, g = gates.reshape(T, 4, H, B).swapaxes(0, 1)  # each [T, H, B]

        S = (3 if self.candidate == "tanh" else 4) * H
        local = workspace.empty("local", gates.shape, gates.dtype)
        np.subtract(1, gates[:, :S], out=local[:, :S])
        local[:, :S] *= gates[:, :S]  # s (1 - s)
        factors = local.reshape(T, 4, H, B).swapaxes(0, 1)
        by_i, by_f, by_o, by_g = factors
        if self.candidate == "tanh":
            np.multiply(g, g, out=by_g)
            np.subtract(1, by_g, out=by_g)  # 1 - g^2
        by_i *= g
        by_f *= c[:-1]
        by_o *= tanh_c
        by_g *= i
        by_c = workspace.empty("by_c", (T, H, B), gates.dtype)
        np.multiply(tanh_c, tanh_c, out=by_c)
        np.subtract(1, by_c, out=by_c)
        by_c *= o
        return factors, by_c
