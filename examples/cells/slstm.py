"""sLSTM: an LSTM with exponential gates (Beck et al. 2024, "xLSTM", arXiv:2405.04517, section 2.2).

    i~, f~, o~, z~ = W x_t + R h_{t-1} + b    one product for all four
    m_t = max(f~ + m_{t-1}, i~)               keeps both exponentials at most 1
    i = exp(i~ - m_t)        f = exp(f~ + m_{t-1} - m_t)
    c_t = f c_{t-1} + i tanh(z~)
    n_t = f n_{t-1} + i                       the sum of the weights in c_t
    h_t = sigma(o~) c_t / n_t
    y_t = V h_t

An input gate may exceed 1, so a late input can outweigh all earlier ones. The state has four vectors. m only
scales c and n: what h_t is does not depend on it.
"""

import torch
from torch import Tensor, nn

FEATURES, UNITS, WIDTH = 4, 16, 2
OUTPUTS = ("y",)
INITIAL = {name: torch.zeros(UNITS) for name in ("h", "c", "n", "m")}


class Step(nn.Module):
    """One step of a batch: x [B, FEATURES]; h, c, n and m [B, UNITS] each."""

    def __init__(self) -> None:
        super().__init__()
        self.from_input = nn.Linear(FEATURES, 4 * UNITS)
        self.from_state = nn.Linear(UNITS, 4 * UNITS, bias=False)
        self.head = nn.Linear(UNITS, WIDTH, bias=False)

    def forward(
        self, x: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Returns y [B, WIDTH] and the new h, c, n and m."""
        gates = self.from_input(x) + self.from_state(h)  # [B, 4 * UNITS]
        log_i, log_f, o, z = gates.chunk(4, dim=1)  # [B, UNITS] each
        carried = log_f + m
        m = torch.maximum(carried, log_i)
        i = torch.exp(log_i - m)
        f = torch.exp(carried - m)
        c = f * c + i * torch.tanh(z)
        n = f * n + i
        h = torch.sigmoid(o) * c / n
        return self.head(h), h, c, n, m
