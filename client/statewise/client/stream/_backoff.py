"""Computes how long to wait before another try."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """How long to wait before try number `attempt`, from 0: doubling, bounded, never in step with others."""

    random: Callable[[], float]
    """Uniform in [0, 1)."""
    first_s: float = 0.05
    most_s: float = 2.0

    def delay_s(self, attempt: int) -> float:
        """Seconds to wait: between a half and the whole of the bound."""
        bound_s = min(self.most_s, self.first_s * 2.0 ** min(attempt, 16))
        return bound_s * (0.5 + 0.5 * self.random())
