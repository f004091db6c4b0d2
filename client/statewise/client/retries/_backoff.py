"""Computes how long to wait before another try: doubling, bounded, and random."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that grow from try to try, and differ from client to client."""

    random: Callable[[], float]
    """Uniform in [0, 1)."""
    first_s: float = 0.05
    most_s: float = 2.0

    def delay_s(self, attempt: int) -> float:
        """Draws the seconds to wait before try number `attempt`, from 0: from half the bound to the bound."""
        bound_s = min(self.most_s, self.first_s * 2.0 ** min(attempt, 16))
        return bound_s * (0.5 + 0.5 * self.random())
