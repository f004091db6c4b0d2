"""Draws dropout masks; networks choose where to apply them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from statewise.models.base import Floats, Workspace


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """Inverted dropout (Srivastava et al. 2014) on the outputs of every layer.

    Attributes:
        rate: Probability that a unit's output is dropped at a step.
        rng: Source of the masks; every forward pass advances it.
    """

    rate: float
    rng: np.random.Generator

    def mask(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike, workspace: Workspace) -> Floats:
        """Draws a mask: 0 where dropped and 1 / (1 - rate) elsewhere, which keeps the expectation."""
        mask = workspace.empty(name, shape, dtype)
        self.rng.random(out=mask, dtype=mask.dtype)
        np.greater_equal(mask, self.rate, out=mask)
        mask *= 1 / (1 - self.rate)
        return mask
