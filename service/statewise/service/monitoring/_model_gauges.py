"""Every model version in memory as it stands, for whoever reports: gauges beside the counts.

Reads and changes nothing, from any thread. What is read may be some microseconds apart.
"""

from dataclasses import dataclass

from statewise.service.base import ModelKey
from statewise.service.dataplane import Dataplane
from statewise.service.session_state import SessionScan
from statewise.service.telemetry import ModelStatistics

IDLE_S = 60.0
"""A session counts as idle when its last request is longer ago than this."""


@dataclass(frozen=True, slots=True)
class ModelGauges:
    """One model version.

    Attributes:
        sessions: Open now.
        state_bytes: That the sessions' state takes, both copies.
        queued_steps: Time steps that wait or run.
        statistics: What was counted.
    """

    sessions: int
    state_bytes: int
    queued_steps: int
    statistics: ModelStatistics

    def __add__(self, other: "ModelGauges") -> "ModelGauges":
        return ModelGauges(
            self.sessions + other.sessions,
            self.state_bytes + other.state_bytes,
            self.queued_steps + other.queued_steps,
            self.statistics + other.statistics,
        )


def read_model_gauges(dataplane: Dataplane) -> dict[ModelKey, ModelGauges]:
    """By name and version; a version that was unloaded and loaded again before its sessions ended is one."""
    readings: dict[ModelKey, ModelGauges] = {}
    for model in list(dataplane.models):
        sessions = model.arena.used_rows
        reading = ModelGauges(
            sessions,
            sessions * model.arena.bytes_per_session,
            model.scheduler.queued_steps,
            model.scheduler.statistics,
        )
        earlier = readings.get(model.key)
        readings[model.key] = reading if earlier is None else earlier + reading
    return readings


def idle_sessions(dataplane: Dataplane) -> dict[ModelKey, int]:
    """Sessions without a request for `IDLE_S`, by name and version. Goes over all: not for the event loop."""
    idle = SessionScan(dataplane.table).idle_by_model(dataplane.clock() - IDLE_S)
    counts: dict[ModelKey, int] = {}
    for model in list(dataplane.models):
        counts[model.key] = counts.get(model.key, 0) + idle.get(model.number, 0)
    return counts
