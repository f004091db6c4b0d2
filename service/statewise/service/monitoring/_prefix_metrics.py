"""Collects what is kept of beginnings that sequences share, and what they save."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from statewise.service.base import ModelKey
from statewise.service.monitoring._model_gauges import ModelGauges
from statewise.service.scheduling.prefixes import PrefixBudget


def prefix_metrics(budget: PrefixBudget | None, gauges: Mapping[ModelKey, ModelGauges]) -> Iterator[Metric]:
    """Yields the metrics, with their values now; all are 0 where nothing is kept. Runs in any thread.

    Args:
        budget: Of the server; None: nothing is kept.
        gauges: Of all model versions.
    """
    for name, text in (
        ("hits", "Sequences that started after a beginning that was known."),
        ("misses", "Sequences that were long enough, and of which no beginning was known."),
        ("saved_steps", "Time steps that were not computed because a beginning was known."),
    ):
        family = CounterMetricFamily(f"statewise_prefix_{name}", text, labels=("model", "version"))
        for (model, version), one in gauges.items():
            family.add_metric((model, str(version)), getattr(one.prefix, name))
        yield family
    used, limit, nodes, evictions = (
        (0, 0, 0, 0)
        if budget is None
        else (budget.used_bytes, budget.limit_bytes, budget.nodes, budget.evictions)
    )
    yield GaugeMetricFamily("statewise_prefix_bytes", "Bytes of the beginnings that are kept.", value=used)
    yield GaugeMetricFamily(
        "statewise_prefix_limit_bytes", "Most bytes of beginnings that are kept.", value=limit
    )
    yield GaugeMetricFamily("statewise_prefix_nodes", "Ends of chunks that are kept.", value=nodes)
    yield CounterMetricFamily(
        "statewise_prefix_evictions", "Ends of chunks that went to make room for others.", value=evictions
    )
