"""Reports of WatchStats: counters as they stand, percentiles of what was answered since the last report."""

import os
import time
from pathlib import Path

from statewise.service.base import ModelKey
from statewise.service.dataplane import Dataplane
from statewise.service.monitoring import ModelGauges, read_model_gauges
from statewise.service.telemetry import SECONDS, Histogram
from statewise.v1 import admin_pb2


class Reporter:
    """Reports to one caller.

    Args:
        dataplane: The server's behaviour.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._reported: dict[ModelKey, Histogram] = {}

    def report(self) -> admin_pb2.WatchStatsResponse:
        """The server at this moment."""
        readings = read_model_gauges(self._dataplane)
        latencies = {key: _latency(reading) for key, reading in readings.items()}
        response = admin_pb2.WatchStatsResponse(
            models=[
                _model(key, readings[key], latencies[key], self._since(key, latencies[key]))
                for key in sorted(readings)
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
        # A version that was unloaded and loaded again counts from nothing.
        if earlier is None or earlier.count > latency.count:
            return latency
        return latency - earlier


def _latency(reading: ModelGauges) -> Histogram:
    return sum((work.latency_s for work in reading.statistics.operations.values()), Histogram(SECONDS))


def _model(
    key: ModelKey, reading: ModelGauges, latency: Histogram, recent: Histogram
) -> admin_pb2.ModelStats:
    works = reading.statistics.operations.values()
    lanes = reading.statistics.lanes.values()
    name, version = key
    stats = admin_pb2.ModelStats(
        model=name,
        version=version,
        sessions=reading.sessions,
        steps=sum(work.steps for work in works),
        batches=sum(lane.rows.count for lane in lanes),
        errors=sum(sum(work.errors.values()) for work in works),
        queued_steps=reading.queued_steps,
        state_bytes=reading.state_bytes,
        batch_rows=int(sum(lane.rows.total for lane in lanes)),
        requests=latency.count,
    )
    if recent.count:
        stats.latency_p50.FromNanoseconds(int(recent.quantile(0.5) * 1e9))
        stats.latency_p99.FromNanoseconds(int(recent.quantile(0.99) * 1e9))
    return stats


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
