"""Counts requests and runs in plain numbers: added up on the event loop, read from any thread.

Knows no metrics library (monitoring) and no messages (transport). A request costs a few additions, an idle
session nothing. A count never falls while its model version is in memory.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from statewise.service.base import RowFailure, ServiceError, StepBatch, StepResult
from statewise.wire import Reason

# Preferred numbers (IEC 60063): with E12, the error of a percentile is at most a tenth of its value.
_E12 = (1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 3.9, 4.7, 5.6, 6.8, 8.2)

SECONDS = (*(float(f"{step}e{decade}") for decade in range(-5, 2) for step in _E12), 100.0)
"""Upper bounds of buckets of durations, 10 µs to 100 s, in seconds."""
ROWS = tuple(float(1 << power) for power in range(17))
"""Upper bounds of buckets of batch sizes, 1 to 65,536 rows."""
OK = "OK"
"""Stands for a reason where the request succeeded."""


class Histogram:
    """Counts of values between bounds, and the sum of the values.

    Args:
        bounds: Upper bounds of the buckets, inclusive, ascending; one more bucket takes what is above.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """Values counted."""
        return sum(self.counts)

    def copy(self) -> "Histogram":
        """Returns an independent copy."""
        return self + Histogram(self.bounds)

    def __add__(self, other: "Histogram") -> "Histogram":
        return self._joined(other, 1)

    def __sub__(self, earlier: "Histogram") -> "Histogram":
        """Returns the values since an earlier copy."""
        return self._joined(earlier, -1)

    def quantile(self, share: float) -> float:
        """Computes the value that a share (0 to 1) of all does not exceed, interpolated; 0.0: no values."""
        wanted = share * self.count
        if wanted == 0:
            return 0.0
        below = 0
        for number, count in enumerate(self.counts[:-1]):
            if below + count >= wanted:
                lower = self.bounds[number - 1] if number else 0.0
                return lower + (self.bounds[number] - lower) * (wanted - below) / count
            below += count
        return self.bounds[-1]

    def _joined(self, other: "Histogram", sign: int) -> "Histogram":
        joined = Histogram(self.bounds)
        joined.counts = [own + sign * its for own, its in zip(self.counts, other.counts, strict=True)]
        joined.total = self.total + sign * other.total
        return joined


@dataclass(slots=True)
class OperationCounts:
    """Requests of one operation on one model version.

    Attributes:
        latency_s: From receipt to reply, of every answered request.
        rows: Rows that succeeded.
        steps: Time steps of these rows.
        errors: Rows that failed, by reason.
    """

    latency_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    rows: int = 0
    steps: int = 0
    errors: Counter[Reason] = field(default_factory=Counter)

    def add(self, rows: int, steps: int, failures: Iterable[RowFailure]) -> None:
        """Counts rows that succeeded, with their time steps, and rows that failed."""
        self.rows += rows
        self.steps += steps
        for failure in failures:
            self.errors[failure.reason] += 1

    def __add__(self, other: "OperationCounts") -> "OperationCounts":
        return OperationCounts(
            self.latency_s + other.latency_s,
            self.rows + other.rows,
            self.steps + other.steps,
            self.errors + other.errors,
        )


@dataclass(slots=True)
class RunCounts:
    """Runs of the engine of one kind: single steps, or slices of long jobs.

    Attributes:
        rows: Rows of each run.
        run_s: From the beginning of each run to its results.
        queue_s: From receipt to the beginning of the first run, of each step batch or job.
        steps: Time steps that runs computed, those of all rows added up.
    """

    rows: Histogram = field(default_factory=lambda: Histogram(ROWS))
    run_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    queue_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    steps: int = 0

    def __add__(self, other: "RunCounts") -> "RunCounts":
        return RunCounts(
            self.rows + other.rows,
            self.run_s + other.run_s,
            self.queue_s + other.queue_s,
            self.steps + other.steps,
        )


@dataclass(slots=True)
class PrefixCounts:
    """Rows that were long enough to start behind a beginning that is known.

    Attributes:
        hits: Rows that did.
        misses: Rows of which nothing was known.
        saved_steps: Time steps that were not computed.
    """

    hits: int = 0
    misses: int = 0
    saved_steps: int = 0

    def add(self, saved_steps: int) -> None:
        """Counts a row that was looked up."""
        self.hits += saved_steps > 0
        self.misses += saved_steps == 0
        self.saved_steps += saved_steps

    def __add__(self, other: "PrefixCounts") -> "PrefixCounts":
        return PrefixCounts(
            self.hits + other.hits, self.misses + other.misses, self.saved_steps + other.saved_steps
        )


@dataclass(slots=True)
class ModelStatistics:
    """Counts of one model version.

    Attributes:
        step: Steps of sessions, single or in chunks.
        predict: Whole sequences.
        generate: Generation, in sessions or without; steps are values emitted.
        single: Runs of single steps.
        long: Runs of long jobs' slices.
        prefix: Rows that were looked up among known beginnings.
        retried_rows: Rows that repeated their session's last request.
        nonfinite_rows: Rows with a NaN or an infinite number among their outputs, generated ones included.
    """

    step: OperationCounts = field(default_factory=OperationCounts)
    predict: OperationCounts = field(default_factory=OperationCounts)
    generate: OperationCounts = field(default_factory=OperationCounts)
    single: RunCounts = field(default_factory=RunCounts)
    long: RunCounts = field(default_factory=RunCounts)
    prefix: PrefixCounts = field(default_factory=PrefixCounts)
    retried_rows: int = 0
    nonfinite_rows: int = 0

    @property
    def operations(self) -> dict[str, OperationCounts]:
        """Counts by the operation's name."""
        return {"step": self.step, "predict": self.predict, "generate": self.generate}

    @property
    def runs(self) -> dict[str, RunCounts]:
        """Counts by the kind of run."""
        return {"single": self.single, "long": self.long}

    def __add__(self, other: "ModelStatistics") -> "ModelStatistics":
        return ModelStatistics(
            self.step + other.step,
            self.predict + other.predict,
            self.generate + other.generate,
            self.single + other.single,
            self.long + other.long,
            self.prefix + other.prefix,
            self.retried_rows + other.retried_rows,
            self.nonfinite_rows + other.nonfinite_rows,
        )

    def count_nonfinite(self, rows: int) -> bool:
        """Counts rows with outputs that are not finite; returns whether to log: at the 1st, 10th, 100th."""
        before, self.nonfinite_rows = self.nonfinite_rows, self.nonfinite_rows + rows
        return before == 0 or len(str(before)) < len(str(self.nonfinite_rows))

    def count_step(self, batch: StepBatch, result: StepResult | ServiceError, latency_s: float) -> None:
        """Counts an answered step batch."""
        counts = self.step
        counts.latency_s.observe(latency_s)
        rows, steps = len(batch.handles), batch.time_steps
        if isinstance(result, ServiceError):
            counts.errors[result.reason] += rows
            return
        for failure in result.failures:
            rows -= 1
            steps -= 1 if batch.steps is None else int(batch.steps[failure.row])
        counts.add(rows, steps, result.failures)


@dataclass(slots=True)
class Statistics:
    """Counts of the whole server.

    Attributes:
        requests: Answered requests, by operation and reason; "OK" for success, even if rows failed.
        row_errors: Failed rows of requests without a model version, by operation and reason.
        opened: Sessions opened, by origin: "open", "restore", "fork".
        ended: Sessions ended, by cause: "closed", "idle".
        refused: Calls refused by the gate, by reason.
        streams: Session streams open now.
    """

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    row_errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    opened: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    streams: int = 0
