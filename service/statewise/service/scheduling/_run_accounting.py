"""Counts the runs of one kind of work, and makes their spans.

Additions only, on the event loop; nothing here decides what runs.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from statewise.service.telemetry import RunCounts

if TYPE_CHECKING:
    from statewise.service.tracing import Tracing


class _Request(Protocol):
    """A step batch or a job: what a run takes rows of."""

    received_s: float
    begun_s: float
    span: Any


class RunAccounting:
    """Counts the runs of one kind of work, and makes their spans.

    Args:
        kind: "single" or "long", as metrics and spans name it.
        counts: Counts of that kind.
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

    def end(self, requests: Iterable[_Request], rows: int, begun_s: float, *, steps: int) -> None:
        """Counts a run that has its results.

        Args:
            requests: All whose rows it took.
            rows: Rows of the run.
            begun_s: When it began.
            steps: Time steps of all its rows together.
        """
        self._counts.steps += steps
        self._counts.run_s.observe(self._clock() - begun_s)
        if self._tracing is not None:
            spans = [request.span for request in requests]
            self._tracing.ran(self._kind, spans, rows=rows, begun_s=begun_s)
