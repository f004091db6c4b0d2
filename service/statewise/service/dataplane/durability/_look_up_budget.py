"""Bounds how many handles and ids that no session has an owner may have looked up in the store.

Guesses cost their owner's budget; what is found costs nothing.
"""

from collections.abc import Callable

from statewise.service.base import ServiceError
from statewise.wire import Reason


class LookUpBudget:
    """Misses of each owner: some at once, and some a second.

    Args:
        clock: Seconds, monotonic.
        burst: Misses at once at most; a request may exceed them once.
        per_s: Misses a second after that.
    """

    def __init__(self, *, clock: Callable[[], float], burst: int = 65_536, per_s: float = 1_000.0) -> None:
        self._clock = clock
        self._burst = burst
        self._per_s = per_s
        self._missed: dict[int, tuple[float, float]] = {}

    def check(self, owner: int) -> None:
        """Raises ServiceError (QUEUE_FULL) where the owner has used its budget up."""
        excess = self._count(owner) - self._burst
        if excess >= 0:
            raise ServiceError(
                Reason.QUEUE_FULL,
                f"at least {self._burst} handles or ids that no session has were looked up in the store for "
                "this owner: try again later",
                retry_after_s=(excess + 1) / self._per_s,
            )

    def note_misses(self, owner: int, misses: int) -> None:
        """Counts look-ups that found nothing."""
        if misses:
            self._missed[owner] = (self._count(owner) + misses, self._clock())

    def _count(self, owner: int) -> float:
        missed, noted_s = self._missed.get(owner, (0.0, 0.0))
        return max(0.0, missed - (self._clock() - noted_s) * self._per_s)
