"""A selective state-space step (Gu & Dao 2023, "Mamba", arXiv:2312.00752, section 3.2).

    d_t = softplus(W_d x_t + b_d)             the length of the step, one a channel
    B_t = W_B x_t      C_t = W_C x_t          how the input is written, and how the state is read
    S_t[k, j] = exp(d_t[k] A[k, j]) S_{t-1}[k, j] + d_t[k] B_t[j] x_t[k]        A < 0
    y_t[k] = sum over j of S_t[k, j] C_t[j] + D[k] x_t[k]

A step of length 0 keeps the state, a long one forgets it. So the input selects what stays, as the gates of
an LSTM do. The state is a matrix, CHANNELS x STATES. The paper's block has a short convolution in front. It
is left out here; `context` in docs/models.md says how a server keeps such a window.
"""

import torch
from torch import Tensor, nn

FEATURES = CHANNELS = 4
STATES = 8
OUTPUTS = ("y",)
INITIAL = {"s": torch.zeros(CHANNELS, STATES)}


class Step(nn.Module):
    """One step of a batch: x [B, CHANNELS], s [B, CHANNELS, STATES]."""

    def __init__(self) -> None:
        super().__init__()
        self.length = nn.Linear(CHANNELS, CHANNELS)
        self.write = nn.Linear(CHANNELS, STATES, bias=False)
        self.read = nn.Linear(CHANNELS, STATES, bias=False)
        # A[k, j] = -j: each channel has memories of 1, 1/2, 1/3 ... steps.
        rates = torch.arange(1.0, STATES + 1).repeat(CHANNELS, 1)
        self.log_rates = nn.Parameter(rates.log())
        self.skip = nn.Parameter(torch.ones(CHANNELS))

    def forward(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Returns y [B, CHANNELS] and the new s."""
        d = nn.functional.softplus(self.length(x))  # [B, CHANNELS]
        kept = torch.exp(-d[:, :, None] * torch.exp(self.log_rates))  # [B, CHANNELS, STATES]
        written = (d * x)[:, :, None] * self.write(x)[:, None, :]  # [B, CHANNELS, STATES]
        s = kept * s + written
        y = (s * self.read(x)[:, None, :]).sum(dim=2) + self.skip * x
        return y, s
