"""Exposes the server's counts and gauges as Prometheus metrics.

Reads the numbers at each scrape and keeps none; nothing here runs for a request. Labels are names and
versions of models, operations, lanes (kinds of runs), causes and reasons: never a session, an owner or an
address.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

import onnxruntime
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from statewise.service.base import ModelKey
from statewise.service.dataplane import Dataplane
from statewise.service.monitoring._model_gauges import ModelGauges, idle_sessions, read_model_gauges
from statewise.service.monitoring._prefix_metrics import prefix_metrics
from statewise.service.monitoring._store_metrics import StoreMetrics
from statewise.service.telemetry import ROWS, SECONDS, Histogram

_E3 = 4
"""Every fourth bound of SECONDS is exposed: 1, 2.2, 4.7, 10 and so on."""
_MODEL = ("model", "version")
_Series = Iterable[tuple[Sequence[str], float]]


def make_registry(dataplane: Dataplane, *, release: str, is_ready: Callable[[], bool]) -> CollectorRegistry:
    """Makes the metrics of the server, of its process and of Python.

    Args:
        dataplane: The server's behaviour.
        release: Of statewise.
        is_ready: Whether the server takes requests.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServerCollector(dataplane, release=release, is_ready=is_ready))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class ServerCollector(Collector):
    """Collects the server's metrics at each scrape. Arguments as for `make_registry`."""

    def __init__(self, dataplane: Dataplane, *, release: str, is_ready: Callable[[], bool]) -> None:
        self._dataplane = dataplane
        self._release = release
        self._is_ready = is_ready
        stored = dataplane.sessions.stored
        self._store = None
        if stored is not None:
            self._store = StoreMetrics(
                stored.checkpoints, dataplane.clock, store_bytes=dataplane.limits.settings.store_bytes
            )

    def collect(self) -> Iterator[Metric]:
        """Yields all metrics, with their values now."""
        for family in self._families():
            yield family
            time.sleep(0)  # lets the event loop run: collecting everything takes milliseconds

    def _families(self) -> Iterator[Metric]:
        gauges = read_model_gauges(self._dataplane)
        yield from self._of_server()
        yield from self._of_models()
        yield from _of_sessions(gauges, idle_sessions(self._dataplane))
        yield from _of_requests(gauges, dict(self._dataplane.statistics.row_errors))
        yield from _of_runs(gauges)
        yield from prefix_metrics(self._dataplane.prefixes, gauges)
        if self._store is not None:
            yield from self._store.collect()

    def _of_server(self) -> Iterator[Metric]:
        statistics, settings = self._dataplane.statistics, self._dataplane.limits.settings
        build = (self._release, onnxruntime.__version__)
        yield _gauge(
            "build_info", "Releases of statewise and onnxruntime.", ("version", "onnxruntime"), [(build, 1)]
        )
        yield _gauge("ready", "1: the server takes work.", (), [((), self._is_ready())])
        yield _gauge("streams", "Session streams open.", (), [((), statistics.streams)])
        yield _counter(
            "requests",
            'Requests answered; the reason is "OK", also where single rows failed, or why they failed whole.',
            ("operation", "reason"),
            dict(statistics.requests).items(),
        )
        yield _counter(
            "refused_calls",
            "Calls that were not let in: credentials, scope, or a request that cannot be read.",
            ("reason",),
            _single(statistics.refused),
        )
        yield _counter(
            "sessions_opened", "Sessions opened, by origin.", ("origin",), _single(statistics.opened)
        )
        yield _counter("sessions_ended", "Sessions ended, by cause.", ("cause",), _single(statistics.ended))
        yield _gauge("sessions_limit", "Sessions that may be open.", (), [((), settings.sessions)])
        yield _gauge(
            "state_limit_bytes", "Bytes that the sessions' state may take.", (), [((), settings.state_bytes)]
        )
        yield _gauge(
            "queue_limit_steps",
            "Time steps that may wait, of each model version.",
            (),
            [((), settings.queue_steps)],
        )

    def _of_models(self) -> Iterator[Metric]:
        models = self._dataplane.models
        yield _gauge(
            "model_info",
            "1 for each model version known: where it stands, and how exact its batches are.",
            (*_MODEL, "status", "exactness", "default"),
            [
                (
                    (
                        status.name,
                        str(status.version),
                        status.state.value,
                        status.loaded.profile.exactness.value if status.loaded else "",
                        str(models.default_version(status.name) == status.version).lower(),
                    ),
                    1,
                )
                for status in models.statuses()
            ],
        )


def _of_sessions(gauges: dict[ModelKey, ModelGauges], idle: dict[ModelKey, int]) -> Iterator[Metric]:
    def each(value: Callable[[ModelGauges], int]) -> _Series:
        return [((name, str(version)), value(one)) for (name, version), one in gauges.items()]

    yield _gauge("sessions", "Sessions open.", _MODEL, each(lambda one: one.sessions))
    yield _gauge(
        "sessions_idle",
        "Sessions open without a request for 60 s.",
        _MODEL,
        [((name, str(version)), count) for (name, version), count in idle.items()],
    )
    yield _gauge(
        "state_bytes", "Bytes that the sessions' state takes.", _MODEL, each(lambda one: one.state_bytes)
    )
    yield _gauge("queued_steps", "Time steps that wait or run.", _MODEL, each(lambda one: one.queued_steps))
    yield _counter(
        "retried_rows",
        "Rows that repeated their session's last request and changed nothing.",
        _MODEL,
        each(lambda one: one.statistics.retried_rows),
    )
    yield _counter(
        "nonfinite_rows",
        "Rows with a NaN or an infinite number among their outputs, generated ones included.",
        _MODEL,
        each(lambda one: one.statistics.nonfinite_rows),
    )


def _of_requests(
    gauges: dict[ModelKey, ModelGauges], row_errors: dict[tuple[str, str], int]
) -> Iterator[Metric]:
    operations = [
        ((name, str(version), operation), counts)
        for (name, version), one in gauges.items()
        for operation, counts in one.statistics.operations.items()
    ]
    labels = (*_MODEL, "operation")
    yield _counter(
        "steps", "Time steps answered.", labels, [(key, counts.steps) for key, counts in operations]
    )
    yield _counter("rows", "Rows answered.", labels, [(key, counts.rows) for key, counts in operations])
    yield _counter(
        "row_errors",
        "Rows that failed, by reason; of operations on sessions other than steps without a model.",
        (*labels, "reason"),
        [
            *(
                ((*key, reason), count)
                for key, counts in operations
                for reason, count in dict(counts.errors).items()
            ),
            *((("", "", *key), count) for key, count in row_errors.items()),
        ],
    )
    yield _histogram(
        "request_seconds",
        "From the receipt of a request to its answer.",
        labels,
        [(key, counts.latency_s) for key, counts in operations],
        SECONDS[::_E3],
    )


def _of_runs(gauges: dict[ModelKey, ModelGauges]) -> Iterator[Metric]:
    runs = [
        ((name, str(version), kind), counts)
        for (name, version), one in gauges.items()
        for kind, counts in one.statistics.runs.items()
    ]
    labels = (*_MODEL, "lane")
    yield _histogram(
        "queue_seconds",
        "From the receipt of work to its first run.",
        labels,
        [(key, counts.queue_s) for key, counts in runs],
        SECONDS[::_E3],
    )
    yield _histogram(
        "batch_seconds",
        "From the beginning of a run of the engine to its results.",
        labels,
        [(key, counts.run_s) for key, counts in runs],
        SECONDS[::_E3],
    )
    yield _counter(
        "run_steps", "Time steps that runs computed.", labels, [(key, counts.steps) for key, counts in runs]
    )
    yield _histogram(
        "batch_rows", "Rows of a run.", labels, [(key, counts.rows) for key, counts in runs], ROWS
    )


def _single(counts: dict[str, int]) -> _Series:
    return [((key,), count) for key, count in dict(counts).items()]


def _gauge(name: str, text: str, labels: Sequence[str], series: _Series) -> Metric:
    family = GaugeMetricFamily(f"statewise_{name}", text, labels=labels)
    for key, value in series:
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, labels: Sequence[str], series: _Series) -> Metric:
    family = CounterMetricFamily(f"statewise_{name}", text, labels=labels)
    for key, value in series:
        family.add_metric(key, value)
    return family


def _histogram(
    name: str,
    text: str,
    labels: Sequence[str],
    series: Iterable[tuple[Sequence[str], Histogram]],
    bounds: Sequence[float],
) -> Metric:
    """`bounds` are every so many of the histograms' own bounds, from the first on."""
    family = HistogramMetricFamily(f"statewise_{name}", text, labels=labels)
    for key, histogram in series:
        below = list(accumulate(histogram.counts))
        every = (len(histogram.bounds) - 1) // (len(bounds) - 1)
        buckets = [(f"{bound:g}", below[number * every]) for number, bound in enumerate(bounds)]
        family.add_metric(key, [*buckets, ("+Inf", below[-1])], histogram.total)
    return family
