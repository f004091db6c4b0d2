"""Holds a trained network together with its units, its names and what resuming needs; touches no file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from statewise.models.base import Array, Floats
from statewise.models.networks import Network, Normalisation


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained network with its units, names and training progress.

    Attributes:
        network: In normalised units.
        normalisation: Converts between raw units and the network's.
        labels: Names of the classes in the order of the outputs; None if outputs are not classes.
        vocabulary: Tokens and their roles, for networks that read or write text; None for others.
        recipe: Name of the recipe.
        seed: Seed of the training.
        metrics: As `train` measured them; empty until training has ended.
        progress: JSON values that resuming needs; `recipe` and `recipe_file` lead to the data.
        arrays: Arrays that resuming needs besides the parameters.
    """

    network: Network
    normalisation: Normalisation = field(default_factory=Normalisation)
    labels: tuple[str, ...] | None = None
    vocabulary: dict[str, Any] | None = None
    recipe: str = ""
    seed: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)

    def predict(
        self, x: Array, lengths: npt.ArrayLike | None = None, state: Floats | None = None
    ) -> tuple[Floats, Floats | None]:
        """Runs the network on raw units; outputs are in raw units too.

        Args:
            x: [T, B, I], or tokens [T, B].
            lengths: [B]; None when every row has T steps.
            state: [B, S]; None for the initial state.

        Returns:
            Outputs and final state as `Network.run`; outputs past a row's length are zero.

        Raises:
            ValueError: As `Network.run`.
        """
        y, final = self.network.run(self.normalisation.inputs(x), lengths, state)
        y = self.normalisation.outputs(y)
        if lengths is not None and not self.network.spec.final:
            y[np.arange(y.shape[0])[:, None] >= np.asarray(lengths)] = 0
        return y, final
