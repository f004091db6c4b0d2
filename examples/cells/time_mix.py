"""A time mix as in RWKV-4 (Peng et al. 2023, arXiv:2305.13048, section 3.1): attention as a recurrence.

    k_t, v_t, r_t                             from x_t mixed with x_{t-1}, channel by channel
    a_t = sum over s <= t of e^{-(t-s) w + k_s} v_s
    b_t = sum over s <= t of e^{-(t-s) w + k_s}
    y_t = W_o (sigma(r_t) (a_{t-1} + e^{u + k_t} v_t) / (b_{t-1} + e^{u + k_t}))

Both sums are kept divided by e^p, so that no exponential exceeds 1:

    p_t = max(p_{t-1} - w, k_t)
    a_t = e^{p_{t-1} - w - p_t} a_{t-1} + e^{k_t - p_t} v_t          b_t likewise

Before the first step the sums are empty, and p would be minus infinity. -1e30 serves as well and has no trap:
minus infinity minus itself is NaN. The state is one tensor of four rows, the last x, a, b and p; a new
session has -1e30 in its last row.
"""

import torch
from torch import Tensor, nn

FEATURES = CHANNELS = 8
OUTPUTS = ("y",)
INITIAL = {"rows": torch.cat([torch.zeros(3, CHANNELS), torch.full((1, CHANNELS), -1e30)])}


class Step(nn.Module):
    """One step of a batch: x [B, CHANNELS], rows [B, 4, CHANNELS]."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.value, self.receptance, self.output = (
            nn.Linear(CHANNELS, CHANNELS, bias=False) for _ in range(4)
        )
        self.mix = nn.Parameter(torch.rand(3, CHANNELS))  # shares of x_t in k, v and r
        self.decay = nn.Parameter(torch.linspace(-3, 1, CHANNELS))  # w = e^decay
        self.bonus = nn.Parameter(torch.full((CHANNELS,), 0.3))  # u

    def forward(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns y [B, CHANNELS] and the new rows."""
        last, a, b, p = rows.unbind(dim=1)  # [B, CHANNELS] each
        for_k, for_v, for_r = (last + share * (x - last) for share in self.mix)
        k, v, r = self.key(for_k), self.value(for_v), self.receptance(for_r)

        now = self.bonus + k
        top = torch.maximum(p, now)
        past, present = torch.exp(p - top), torch.exp(now - top)
        mean = (past * a + present * v) / (past * b + present)

        faded = p - torch.exp(self.decay)
        p = torch.maximum(faded, k)
        past, present = torch.exp(faded - p), torch.exp(k - p)
        a, b = past * a + present * v, past * b + present
        return self.output(torch.sigmoid(r) * mean), torch.stack([x, a, b, p], dim=1)
