"""Reads a server's reports of its counters into plain values, which hold no messages."""

from dataclasses import dataclass
from datetime import UTC, datetime

from statewise.client.values._arguments import check_seconds
from statewise.v1 import admin_pb2


@dataclass(frozen=True)
class ModelStats:
    """Counters of one model version. Totals count since it was loaded."""

    model: str
    version: int
    sessions: int
    """Open at present."""
    requests: int
    """Answered, in total."""
    steps: int
    """Time steps answered, in total."""
    errors: int
    """Rows that failed, in total."""
    batches: int
    """Runs of the engine, in total."""
    batch_rows: int
    """Rows of these runs, in total."""
    queued_steps: int
    """Time steps that wait or run at present."""
    state_bytes: int
    """State of the open sessions at present."""
    latency_p50_s: float | None
    """Median time from receipt to response of the requests since the previous report; None: no requests."""
    latency_p99_s: float | None
    """The same, 99th percentile."""


@dataclass(frozen=True)
class ServerStats:
    """Counters of a server at one moment."""

    at: datetime
    models: tuple[ModelStats, ...]
    """One for each model version in memory, by name and version."""
    streams: int
    """Session streams that are open."""
    resident_bytes: int
    """Resident memory of the process."""
    cpu_seconds: float
    """CPU time that the process has used."""


def stats_request(interval_s: float) -> admin_pb2.WatchStatsRequest:
    """Makes a request for a report at every interval.

    Raises:
        InvalidInput: it is no number of seconds.
    """
    check_seconds("interval", interval_s)
    request = admin_pb2.WatchStatsRequest()
    request.interval.FromNanoseconds(int(interval_s * 1e9))
    return request


def read_stats(response: admin_pb2.WatchStatsResponse) -> ServerStats:
    """Reads a report."""
    return ServerStats(
        at=response.at.ToDatetime(tzinfo=UTC),
        models=tuple(_model(model) for model in response.models),
        streams=response.streams,
        resident_bytes=response.resident_bytes,
        cpu_seconds=response.cpu_seconds,
    )


def _model(stats: admin_pb2.ModelStats) -> ModelStats:
    answered = stats.HasField("latency_p50")
    return ModelStats(
        model=stats.model,
        version=stats.version,
        sessions=stats.sessions,
        requests=stats.requests,
        steps=stats.steps,
        errors=stats.errors,
        batches=stats.batches,
        batch_rows=stats.batch_rows,
        queued_steps=stats.queued_steps,
        state_bytes=stats.state_bytes,
        latency_p50_s=stats.latency_p50.ToNanoseconds() / 1e9 if answered else None,
        latency_p99_s=stats.latency_p99.ToNanoseconds() / 1e9 if answered else None,
    )
