"""Hides the padding of ragged batches, whose sequences of different length are padded to T steps.

Cells compute padded steps like any other. Afterwards the outputs of padded steps are set to zero, the
final state is taken at each row's own end, and the reverse direction starts at that end. So padding
reaches neither loss, nor state, nor gradient.
"""

from __future__ import annotations

import numpy as np

from statewise.models.base import Array, Floats, Integers


class Padding:
    """The lengths of a batch and the operations that depend on them. Arrays are [T, N, B].

    Attributes:
        steps: T.
        lengths: [B], or None when every row has T steps.
    """

    def __init__(self, steps: int, batch: int, lengths: Integers | None) -> None:
        self.steps = steps
        self.rows = np.arange(batch)
        self.lengths = None if lengths is None or bool(np.all(lengths == steps)) else np.asarray(lengths)
        if self.lengths is not None:
            time = np.arange(steps)[:, None]
            self._valid = time < self.lengths  # [T, B]
            self._mirrored = np.where(self._valid, self.lengths - 1 - time, time)  # [T, B]

    def zero(self, x: Array) -> None:
        """Sets everything past a row's end to zero, in place."""
        if self.lengths is not None:
            # Assigned, not multiplied by 0: padding may hold infinities.
            np.copyto(x, 0, where=~self._valid[:, None, :])

    def reverse(self, x: Array) -> Array:
        """Reverses each row within its own length; reversing twice restores x."""
        if self.lengths is None:
            return x[::-1]
        mirrored: Array = np.take_along_axis(x, self._mirrored[:, None, :], axis=0)
        return mirrored

    def final(self, memory: Floats) -> Floats:
        """Picks each row's last valid state, [H, B], from states [T+1, H, B], the initial one first."""
        # Indices on both sides of a slice put the rows first: [B, H].
        final: Floats = memory[self.steps] if self.lengths is None else memory[self.lengths, :, self.rows].T
        return final

    def add_final(self, gradient: Floats, final_gradient: Floats) -> None:
        """Adds [H, B] to each row's last valid step of [T, H, B], in place: the transpose of `final`."""
        if self.lengths is None:
            gradient[-1] += final_gradient
        else:
            gradient[self.lengths - 1, :, self.rows] += final_gradient.T
