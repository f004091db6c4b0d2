"""Collects what checkpoints have written to the session store, how far behind it is, and what it keeps."""

import math
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from statewise.service.dataplane.durability import Checkpoints


class StoreMetrics:
    """Metrics of a server that has a store.

    Args:
        checkpoints: Write to the store.
        clock: Seconds, monotonic; that of the checkpoints.
        store_bytes: Limit of the bytes that the store keeps; None: there is none.
    """

    def __init__(
        self, checkpoints: Checkpoints, clock: Callable[[], float], *, store_bytes: int | None
    ) -> None:
        self._checkpoints = checkpoints
        self._store_bytes = math.inf if store_bytes is None else store_bytes
        self._clock = clock
        self._begun_s = clock()

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics, with their values now. Runs in any thread."""
        counts = self._checkpoints.counts
        lag_s = self._clock() - max(self._checkpoints.stored_until_s, self._begun_s)
        for name, text, count in (
            ("checkpoints", "Checkpoints that wrote something to the session store.", counts.ticks),
            ("checkpoint_failures", "Checkpoints that the session store did not take.", counts.failures),
            ("store_losses", "Times that the session store came back without its sessions.", counts.losses),
            ("checkpoint_sessions", "Sessions that checkpoints wrote, each once a checkpoint.", counts.rows),
            ("checkpoint_bytes", "Bytes that checkpoints wrote.", counts.stored_bytes),
        ):
            yield CounterMetricFamily(f"statewise_{name}", text, value=count)
        for name, text, value in (
            ("checkpoint_seconds", "Duration of the last checkpoint that wrote something.", counts.tick_s),
            ("store_away", "1: the session store did not take the last checkpoint.", bool(counts.why_away)),
            ("sessions_asleep", "Sessions in the store that are not in this server's memory.", counts.asleep),
            ("store_sessions", "Sessions in the store.", counts.kept.sessions),
            ("store_bytes", "Bytes of the sessions in the store.", counts.kept.stored_bytes),
            ("store_limit_bytes", "Most bytes of sessions in the store.", self._store_bytes),
            ("durable_lag_seconds", "Time since all that had happened was stored.", max(lag_s, 0.0)),
        ):
            yield GaugeMetricFamily(f"statewise_{name}", text, value=value)
