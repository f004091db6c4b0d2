"""An exponential mean (Brown 1956, "Exponential Smoothing for Predicting Demand"): the output is the state.

    s_t = s_{t-1} + alpha (x_t - s_{t-1})

The graph has one output. It is the state for the next step, and it is also what callers get, for there is no
other.
"""

import torch
from torch import Tensor, nn

FEATURES = 3
OUTPUTS = ()  # beside the state
ALPHA = 0.1
INITIAL = {"mean": torch.zeros(FEATURES)}


class Step(nn.Module):
    """One step of a batch: x [B, FEATURES], mean [B, FEATURES]."""

    def forward(self, x: Tensor, mean: Tensor) -> Tensor:
        """Returns the new mean."""
        return mean + ALPHA * (x - mean)
