"""Runs the gated recurrent unit, `equations.gru_step`, over whole sequences, with both places of the reset.

The rows of W, R and b hold the gates z, r, n; phi is the activation of n. With the reset after the
product the recurrent bias bR is multiplied by r, so it cannot be merged into b.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from statewise.models.base import Floats, Workspace
from statewise.models.cells._cell import Weights, by_feature, input_products, weight_gradients


@dataclass(frozen=True)
class _Tape:
    x: Floats  # [T, I, B]
    gates: Floats  # [T, 3H, B]: z, r, n after their activations
    h: Floats  # [T+1, H, B]
    reset: Floats  # [T, H, B]: r * h_{t-1} (before), R_n h_{t-1} + bR (after)


@dataclass(frozen=True)
class GRU:
    """Gated recurrent unit over whole sequences.

    Attributes:
        candidate: Activation of the candidate gate, tanh or sigmoid.
        reset_after: Whether r acts after the product with R_n instead of before it.
    """

    candidate: str = "tanh"
    reset_after: bool = False

    gates = ("z", "r", "n")
    memories = ("h",)

    def forward(
        self, weights: Weights, x: Floats, initial: tuple[Floats, ...], workspace: Workspace
    ) -> tuple[tuple[Floats, ...], _Tape]:
        """Computes `equations.gru_step` for every t, in place; see `Cell.forward`."""
        T, _, B = x.shape
        H, dtype = weights["R"].shape[1], x.dtype
        h = workspace.empty("h", (T + 1, H, B), dtype)
        gates = workspace.empty("gates", (T, 3 * H, B), dtype)
        reset = workspace.empty("reset", (T, H, B), dtype)
        product = workspace.empty("product", (3 * H, B), dtype)

        # sigma(a) = (1 + tanh(a / 2)) / 2: the rows of z and r are halved beforehand, exactly.
        half = np.ones(3 * H, dtype)
        half[: 2 * H] = 0.5
        R = weights["R"] * half[:, None]
        input_products(weights["W"] * half[:, None], weights["b"] * half, x, out=gates)

        h[0] = initial[0]
        z, r, n = gates.reshape(T, 3, H, B).swapaxes(0, 1)
        for t in range(T):
            a = gates[t, : 2 * H]
            if self.reset_after:
                np.matmul(R, h[t], out=product)
                np.add(product[2 * H :], weights["bR"][:, None], out=reset[t])
            else:
                np.matmul(R[: 2 * H], h[t], out=product[: 2 * H])
            a += product[: 2 * H]
            np.tanh(a, out=a)
            a *= 0.5
            a += 0.5  # z, r = sigma(a)                                             [H, B] each
            if self.reset_after:
                n[t] += np.multiply(r[t], reset[t], out=product[:H])
            else:
                np.multiply(r[t], h[t], out=reset[t])
                n[t] += np.matmul(R[2 * H :], reset[t], out=product[:H])
            self._activate(n[t])  # n = phi(...)                                     [H, B]
            np.subtract(n[t], h[t], out=h[t + 1])
            h[t + 1] *= z[t]
            h[t + 1] += h[t]  # h = h_{t-1} + z (n - h_{t-1})                        [H, B]
        return (h,), _Tape(x, gates, h, reset)

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

        da_z = dh * (n - h_{t-1}) * z (1 - z)
        da_n = dh * z * phi'(a_n)
        before:  ds = R_n^T da_n        s = r * h_{t-1}
                 da_r = ds * h_{t-1} * r (1 - r)
                 dh_{t-1} = dh (1 - z) + ds * r + R_z^T da_z + R_r^T da_r
        after:   ds = da_n * r          s = R_n h_{t-1} + bR
                 da_r = da_n * s * r (1 - r)
                 dh_{t-1} = dh (1 - z) + R^T (da_z, da_r, ds)
        """
        x = tape.x
        T, _, B = x.shape
        R, H, dtype = weights["R"], weights["R"].shape[1], x.dtype
        r = tape.gates[:, H : 2 * H]  # [T, H, B]
        (by_z, by_r, by_n), keep = self._factors(tape, workspace)

        (dh_upstream,) = upstream
        da = workspace.empty("da", (T, 3 * H, B), dtype)
        da_n = da[:, 2 * H :]
        # The gradients that R carries to h_{t-1}: (da_z, da_r, ds) after, (da_z, da_r, da_n) before.
        through = workspace.empty("through", (T, 3 * H, B), dtype) if self.reset_after else da
        da_z, da_r, through_n = through.reshape(T, 3, H, B).swapaxes(0, 1)
        ds = workspace.empty("ds", (H, B), dtype)
        dh, product = np.zeros((H, B), dtype), workspace.empty("dh_product", (H, B), dtype)
        R_T, R_n_T, R_zr_T = R.T, R[2 * H :].T, R[: 2 * H].T
        for t in reversed(range(T)):
            if dh_upstream is not None:
                dh += dh_upstream[t]
            np.multiply(dh, by_z[t], out=da_z[t])
            np.multiply(dh, by_n[t], out=da_n[t])
            dh *= keep[t]
            if self.reset_after:
                np.multiply(da_n[t], by_r[t], out=da_r[t])
                np.multiply(da_n[t], r[t], out=through_n[t])
                dh += np.matmul(R_T, through[t], out=product)
            else:
                np.matmul(R_n_T, da_n[t], out=ds)
                np.multiply(ds, by_r[t], out=da_r[t])
                ds *= r[t]
                dh += ds
                dh += np.matmul(R_zr_T, da[t, : 2 * H], out=product)

        if self.reset_after:
            da[:, : 2 * H] = through[:, : 2 * H]
        self._weight_gradients(tape, da, through, gradients, workspace)
        dx = np.matmul(weights["W"].T, da) if input_gradient else None
        return dx, (dh,)

    def _factors(self, tape: _Tape, workspace: Workspace) -> tuple[Floats, Floats]:
        """Returns the factors of dh, ds and da_n in `backward`; they need no later step, so all t at once.

        Returns:
            dh/da_z; da_r/ds (before) or da_r/da_n (after); dh/da_n: [3, T, H, B]. And 1 - z, the factor
            of dh_t/dh_{t-1} along the carried state, [T, H, B].
        """
        h, gates = tape.h, tape.gates
        T, H, B = tape.reset.shape
        z, _, n = gates.reshape(T, 3, H, B).swapaxes(0, 1)  # each [T, H, B]

        local = workspace.empty("local", gates.shape, gates.dtype)
        factors = local.reshape(T, 3, H, B).swapaxes(0, 1)
        by_z, by_r, by_n = factors
        np.subtract(1, gates[:, : 2 * H], out=local[:, : 2 * H])
        keep = workspace.empty("keep", (T, H, B), gates.dtype)
        np.copyto(keep, by_z)
        local[:, : 2 * H] *= gates[:, : 2 * H]
        by_r *= tape.reset if self.reset_after else h[:-1]
        by_z *= np.subtract(n, h[:-1], out=workspace.empty("slope", (T, H, B), gates.dtype))
        self._slope(n, by_n)
        by_n *= z
        return factors, keep

    def _weight_gradients(
        self, tape: _Tape, da: Floats, through: Floats, gradients: Weights, workspace: Workspace
    ) -> None:
        """Writes the gradients of W, R, b (and bR), sums over t and b.

        Args:
            tape: From `forward`.
            da: Gradient with respect to the pre-activations, [T, 3H, B].
            through: The gradients that R carries to h_{t-1}, [T, 3H, B].
            gradients: Overwritten.
            workspace: As given to `forward`.
        """
        H = tape.h.shape[1]
        rows = weight_gradients(da, tape.x, gradients, workspace)
        h_before = by_feature(tape.h[:-1], "h", workspace).T
        if self.reset_after:
            rows = by_feature(through, "through", workspace)
            np.matmul(rows, h_before, out=gradients["R"])
            np.sum(rows[2 * H :], axis=1, out=gradients["bR"])
        else:
            np.matmul(rows[: 2 * H], h_before, out=gradients["R"][: 2 * H])
            before = by_feature(tape.reset, "reset", workspace).T
            np.matmul(rows[2 * H :], before, out=gradients["R"][2 * H :])

    def _activate(self, a: Floats) -> None:
        """Computes phi, in place."""
        if self.candidate == "tanh":
            np.tanh(a, out=a)
        else:
            a *= 0.5
            np.tanh(a, out=a)
            a *= 0.5
            a += 0.5

    def _slope(self, n: Floats, out: Floats) -> Floats:
        """Computes phi'(a_n), written with n = phi(a_n)."""
        if self.candidate == "tanh":
            np.multiply(n, n, out=out)
            return np.subtract(1, out, out=out)
        np.subtract(1, n, out=out)
        out *= n
        return out
