"""A Kalman filter of position and velocity (Kalman 1960, doi:10.1115/1.3662552).

    m = F m_{t-1}            P = F P_{t-1} F^T + Q          what is expected before the measurement
    s = P[0, 0] + R                                         the variance of z_t as expected
    K = P[:, 0] / s                                         how much of the surprise is believed
    m_t = m + K (z_t - m[0])     P_t = P - K P[0, :]

Nothing here is learned; what makes it a recurrent model is its state: the mean m and the covariance P. F adds
the velocity to the position. A new session knows nothing: m is 0 and the variances in P are 1,000.
"""

import torch
from torch import Tensor, nn

FEATURES = 1
OUTPUTS = ("position", "surprise")
STEP, NOISE, MEASURED = 1.0, 0.01, 0.25  # seconds; variance of the acceleration, and of a measurement
INITIAL = {"mean": torch.zeros(2), "covariance": 1000 * torch.eye(2)}


class Step(nn.Module):
    """One step of a batch: z [B, 1], mean [B, 2], covariance [B, 2, 2]."""

    move: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        gain = torch.tensor([STEP**2 / 2, STEP])  # how an acceleration moves position and velocity
        self.register_buffer("move", torch.tensor([[1.0, STEP], [0.0, 1.0]]))
        self.register_buffer("spread", NOISE * torch.outer(gain, gain))

    def forward(self, z: Tensor, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns position [B], surprise in standard deviations [B], and the new mean and covariance."""
        m = mean @ self.move.T  # [B, 2]
        P = self.move @ covariance @ self.move.T + self.spread  # [B, 2, 2]
        s = P[:, 0, 0] + MEASURED  # [B]
        K = P[:, :, 0] / s[:, None]  # [B, 2]
        surprise = z[:, 0] - m[:, 0]  # [B]
        m = m + K * surprise[:, None]
        P = P - K[:, :, None] * P[:, None, 0, :]
        return m[:, 0], surprise / s.sqrt(), m, P
