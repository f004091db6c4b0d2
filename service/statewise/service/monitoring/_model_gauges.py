"""Reads gauges and counts of every model version in memory, from any thread.

Values of one reading may be some microseconds apart.
"""

from dataclasses import dataclass

from statewise.service.base import ModelKey
from statewise.service.dataplane import Dataplane
from statewise.service.session_state import SessionScan
from statewise.service.telemetry import ModelStatistics, PrefixCounts

IDLE_S = 60.0
"""A session without a request for longer than this counts as idle."""


@dataclass(frozen=True, slots=True)
class ModelGauges:
    """One model version.

    Attributes:
        sessions: Sessions open now.
        state_bytes: Bytes of the sessions: both copies of their states, and earlier ones that they keep.
        queued_steps: Time steps that wait or run.
        statistics: Counts since loading.
        prefix: Counts of sequences that were looked up among known beginnings, those of the encoder included.
    """

    sessions: int
    state_bytes: int
    queued_steps: int
    statistics: ModelStatistics
    prefix: PrefixCounts

    def __add__(self, other: "ModelGauges") -> "ModelGauges":
        return ModelGauges(
            self.sessions + other.sessions,
            self.state_bytes + other.state_bytes,
            self.queued_steps + other.queued_steps,
            self.statistics + other.statistics,
            self.prefix + other.prefix,
        )


def read_model_gauges(dataplane: Dataplane) -> dict[ModelKey, ModelGauges]:
    """Reads the gauges of all model versions, by name and version.

    A version that was loaded again while its earlier sessions are open is in memory twice, and summed.
    """
    gauges: dict[ModelKey, ModelGauges] = {}
    for model in list(dataplane.models):
        one = ModelGauges(
            model.arena.used_rows,
            model.kept.used_bytes,
            model.queued_steps,
            model.scheduler.statistics,
            model.prefix_counts,
        )
        earlier = gauges.get(model.key)
        gauges[model.key] = one if earlier is None else earlier + one
    return gauges


def idle_sessions(dataplane: Dataplane) -> dict[ModelKey, int]:
    """Counts idle sessions by name and version. Looks at all sessions: not for the event loop."""
    idle = SessionScan(dataplane.table).idle_by_model(dataplane.clock() - IDLE_S)
    counts: dict[ModelKey, int] = {}
    for model in list(dataplane.models):
        counts[model.key] = counts.get(model.key, 0) + idle.get(model.number, 0)
    return counts
