"""Unrolls a recurrent network into T feed-forward layers with the same weights.

Outputs and summed gradient equal those of the recurrent network, whose number of parameters does not depend
on T. Untied, each layer has its own weights and its own gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from statewise.models.base import Array, Floats
from statewise.models.effects._steps import backward_steps, forward_steps
from statewise.models.networks import Network, Parameters


@dataclass(frozen=True)
class Unrolled:
    """T feed-forward layers; layer t maps (x_t, s_{t-1}) to (scores_t, s_t).

    Attributes:
        layers: One network a step, each with its own buffer.
    """

    layers: tuple[Network, ...]

    @classmethod
    def of(cls, network: Network, steps: int) -> Unrolled:
        """Copies a one-way network once for every step."""
        shapes = network.spec.parameter_shapes()
        return cls(
            tuple(
                Network(network.spec, Parameters(shapes, network.parameters.flat.copy()))
                for _ in range(steps)
            )
        )

    @property
    def parameter_count(self) -> int:
        """The number of parameters of all layers together if they are untied."""
        return sum(layer.parameters.flat.size for layer in self.layers)

    def forward(self, x: Array) -> Floats:
        """Computes the scores of every layer, [T, B, O], for x [T, B, I]."""
        return np.stack(forward_steps(self.layers, x).scores)

    def gradients(self, x: Array, d_scores: Sequence[Floats]) -> list[Parameters]:
        """Computes the gradient of each layer's weights; their sum is the recurrent network's gradient.

        Args:
            x: [T, B, I].
            d_scores: Gradients with respect to the scores of each layer, [B, O].
        """
        steps = forward_steps(self.layers, x)
        contributions, _ = backward_steps(steps, np.zeros_like(steps.states[-1]), d_scores)
        return contributions
