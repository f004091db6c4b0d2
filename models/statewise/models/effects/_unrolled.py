"""A recurrent network unrolled: T feed-forward layers that happen to have the same weights.

Not another way to train. With the layers tied, outputs and gradient are those of the recurrent
network, whose parameters do not become more with T; untied, each layer has a gradient of its own.
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
        layers: A network a step, each with a buffer of its own.
    """

    layers: tuple[Network, ...]

    @classmethod
    def of(cls, network: Network, steps: int) -> Unrolled:
        """Copies of a one-way network, one for every step."""
        shapes = network.spec.parameter_shapes()
        return cls(
            tuple(
                Network(network.spec, Parameters(shapes, network.parameters.flat.copy()))
                for _ in range(steps)
            )
        )

    @property
    def parameter_count(self) -> int:
        """Of all layers together, were they not tied."""
        return sum(layer.parameters.flat.size for layer in self.layers)

    def forward(self, x: Array) -> Floats:
        """Scores of every layer, [T, B, O], for x [T, B, I]."""
        return np.stack(forward_steps(self.layers, x).scores)

    def gradients(self, x: Array, d_scores: Sequence[Floats]) -> list[Parameters]:
        """The gradient of each layer's own weights; tied, their sum is the recurrent network's.

        Args:
            x: [T, B, I].
            d_scores: The loss's gradient by the scores of each layer, [B, O] each.
        """
        steps = forward_steps(self.layers, x)
        contributions, _ = backward_steps(steps, np.zeros_like(steps.states[-1]), d_scores)
        return contributions
