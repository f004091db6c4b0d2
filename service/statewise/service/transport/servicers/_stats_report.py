"""Builds the reports of WatchStats: counters since loading, percentiles since the last report."""

import os
import time
from pathlib import Path

from statewise.service.base import ModelKey
from statewise.service.dataplane import Dataplane
from statewise.service.monitoring import ModelGauges, read_model_gauges
from statewise.service.telemetry import SECONDS, Histogram, ModelStatistics
from statewise.v1 import admin_pb2


class StatsReporter:
    """Builds the reports of one call.

    Args:
        dataplane: The server's behaviour.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._reported: dict[ModelKey, Histogram] = {}

    def report(self) -> admin_pb2.WatchStatsResponse:
        """Returns the server's statistics now."""
        gauges = read_model_gauges(self._dataplane)
        latencies = {key: _latency(one.statistics) for key, one in gauges.items()}
        response = admin_pb2.WatchStatsResponse(
            models=[
                _model_stats(key, gauges[key], latencies[key], self._since(key, latencies[key]))
                for key in sorted(gauges)
            ],
            streams=self._dataplane.statistics.streams,
            resident_bytes=_resident_bytes(),
            cpu_seconds=time.process_time(),
        )
        response.at.GetCurrentTime()
        self._reported = latencies
        return response

    def _since(self, key: ModelKey, latency: Histogram) -> Histogram:
        earlier = self._reported.get(key)
        # A version that was unloaded and loaded again counts from 0.
        if earlier is None or earlier.count > latency.count:
            return latency
        return latency - earlier


def _latency(statistics: ModelStatistics) -> Histogram:
    return sum((counts.latency_s for counts in statistics.operations.values()), Histogram(SECONDS))


def _model_stats(
    key: ModelKey, gauges: ModelGauges, latency: Histogram, recent: Histogram
) -> admin_pb2.ModelStats:
    operations = gauges.statistics.operations.values()
    runs = gauges.statistics.runs.values()
    name, version = key
    stats = admin_pb2.ModelStats(
        model=name,
        version=version,
        sessions=gauges.sessions,
        steps=sum(counts.steps for counts in operations),
        batches=sum(counts.rows.count for counts in runs),
        errors=sum(sum(counts.errors.values()) for counts in operations),
        queued_steps=gauges.queued_steps,
        state_bytes=gauges.state_bytes,
        batch_rows=int(sum(counts.rows.total for counts in runs)),
        requests=latency.count,
    )
    if recent.count:
        stats.latency_p50.FromNanoseconds(int(recent.quantile(0.5) * 1e9))
        stats.latency_p99.FromNanoseconds(int(recent.quantile(0.99) * 1e9))
    return stats


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
