"""Limits the work that waits: counts its time steps, and refuses more with QUEUE_FULL.

The scheduler asks before it takes work. The job queue estimates how long new work would wait.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from statewise.service.base import ServiceError
from statewise.wire import Reason

_SHORTEST_RETRY_S = 0.05


class QueuedSteps:
    """The time steps that wait or run, up to a limit.

    Args:
        limit: Time steps that may wait.
    """

    def __init__(self, limit: int) -> None:
        self.count = 0
        self._limit = limit

    def has_room(self, time_steps: int) -> bool:
        """Returns whether so many more are within the limit."""
        return self.count + time_steps <= self._limit

    def refusal(self, *, step_s: float) -> ServiceError:
        """Explains why more time steps are refused; `step_s` are the seconds that a step takes at present."""
        return _queue_full(
            f"{self.count} time steps wait already, of {self._limit} that may", self.count * step_s
        )

    @contextmanager
    def reserve(self, time_steps: int) -> Iterator[Callable[[int], None]]:
        """Counts time steps as waiting; yields a function that releases so many of them.

        At the end the rest is released.
        """
        self.count += time_steps
        reserved = time_steps

        def release(steps: int) -> None:
            nonlocal reserved
            steps = min(steps, reserved)
            reserved -= steps
            self.count -= steps

        try:
            yield release
        finally:
            release(reserved)


def waits_too_long(wait_s: float, limit_s: float) -> ServiceError:
    """Returns the refusal of work that would have to wait for longer than the limit."""
    return _queue_full(
        f"new work would wait for about {wait_s:.1f} s; expected at most {limit_s:g} s", wait_s - limit_s / 2
    )


def _queue_full(message: str, retry_after_s: float) -> ServiceError:
    """Returns the refusal of work, with the time after which to try again."""
    retry_after_s = max(_SHORTEST_RETRY_S, retry_after_s)
    return ServiceError(
        Reason.QUEUE_FULL, f"{message}; try again in {retry_after_s:.2f} s", retry_after_s=retry_after_s
    )
