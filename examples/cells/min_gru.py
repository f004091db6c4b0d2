"""minGRU: a GRU whose gates do not read the state (Feng et al. 2024, arXiv:2410.01201, section 3.1).

    z_t = sigma(W_z x_t + b_z)                the share of the state that is replaced
    n_t = W_n x_t + b_n                       what replaces it
    h_t = (1 - z_t) h_{t-1} + z_t n_t
    y_t = V h_t + c

Without R h_{t-1} in the gates all steps of a training sequence can be computed at once, by a parallel scan. A
server computes one step after the other, as for any recurrent cell.
"""

import torch
from torch import Tensor, nn

FEATURES, UNITS, WIDTH = 4, 16, 2
OUTPUTS = ("y",)
INITIAL = {"h": torch.zeros(UNITS)}


class Step(nn.Module):
    """One step of a batch: x [B, FEATURES], h [B, UNITS]."""

    def __init__(self) -> None:
        super().__init__()
        self.update = nn.Linear(FEATURES, UNITS)
        self.candidate = nn.Linear(FEATURES, UNITS)
        self.head = nn.Linear(UNITS, WIDTH)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Returns y [B, WIDTH] and the new h."""
        z = torch.sigmoid(self.update(x))  # [B, UNITS]
        n = self.candidate(x)  # [B, UNITS]
        h = (1 - z) * h + z * n
        return self.head(h), h
