"""Counts the time steps that wait, and the runs of one kind of work.

Additions only, on the event loop; nothing here decides what runs.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from statewise.service.base import ServiceError
from statewise.service.telemetry import RunCounts
from statewise.wire import Reason

if TYPE_CHECKING:
    from statewise.service.tracing import Tracing

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
        return queue_full(
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


def queue_full(message: str, retry_after_s: float) -> ServiceError:
    """Returns the refusal of work, with the time after which to try again."""
    retry_after_s = max(_SHORTEST_RETRY_S, retry_after_s)
    return ServiceError(
        Reason.QUEUE_FULL, f"{message}; try again in {retry_after_s:.2f} s", retry_after_s=retry_after_s
    )


class _Request(Protocol):
    """A step batch or a job: what a run takes rows of."""

    received_s: float
    begun_s: float
    span: Any


class RunAccounting:
    """Counts the runs of one kind of work, and makes their spans.

    Args:
        kind: "single" or "long", as metrics and spans name it.
        counts: Of that kind.
        clock: Seconds, monotonic.
        tracing: Makes spans of runs; None: there are none.
    """

    def __init__(
        self, kind: str, counts: RunCounts, *, clock: Callable[[], float], tracing: "Tracing | None"
    ) -> None:
        self._kind = kind
        self._counts = counts
        self._clock = clock
        self._tracing = tracing

    def begin(self, fresh: Iterable[_Request], rows: int, begun_s: float) -> None:
        """Counts a run that begins; the `fresh` requests have not run before, and waited until now."""
        self._counts.rows.observe(rows)
        for request in fresh:
            request.begun_s = begun_s
            self._counts.queue_s.observe(begun_s - request.received_s)

    def end(self, requests: Iterable[_Request], rows: int, begun_s: float) -> None:
        """Counts a run that has its results; `requests` are all whose rows it took."""
        self._counts.run_s.observe(self._clock() - begun_s)
        if self._tracing is not None:
            spans = [request.span for request in requests]
            self._tracing.ran(self._kind, spans, rows=rows, begun_s=begun_s)
