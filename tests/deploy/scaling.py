"""Holds what Prometheus reads, and what replicas are scaled by, to the metrics that the server has."""

import re
from collections.abc import Iterator

from .manifests import ROOT, Manifests, Object


def scaling_complaints(manifests: Manifests, rules: list[Object]) -> Iterator[str]:
    """What is read or scaled by and does not exist, one line each; the rules are prometheus-adapter's."""
    yield from _monitors(manifests)
    yield from _scalers(manifests, rules)


def served_metrics() -> set[str]:
    """Metrics of the server, as docs/operations.md lists them; a test holds that list to the server."""
    page = (ROOT / "docs/operations.md").read_text()
    return set(re.findall(r"^\| `(statewise_\w+)`", page, re.MULTILINE))


def _monitors(manifests: Manifests) -> Iterator[str]:
    for monitor in manifests.of("ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"].items()
        services = [one for one in manifests.of("Service") if selector <= one["metadata"]["labels"].items()]
        if len(services) != 1:
            yield f"ServiceMonitor: selects {len(services)} services; expected one, so that pods count once"
        ports = {port["name"] for one in services for port in one["spec"]["ports"]}
        for endpoint in monitor["spec"]["endpoints"]:
            if endpoint["port"] != "metrics" or endpoint["port"] not in ports:
                yield f"ServiceMonitor: {endpoint['port']} is not the service's port metrics"
            if endpoint["path"] != "/metrics":
                yield f"ServiceMonitor: {endpoint['path']}: the server answers /metrics"


def _scalers(manifests: Manifests, rules: list[Object]) -> Iterator[str]:
    offered = {rule["name"]["as"]: _series_of(rule) for rule in rules}
    for scaler in manifests.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        found = manifests.named(target["kind"], target["name"])
        if found is None or target["kind"] != "Deployment":
            yield f"HorizontalPodAutoscaler: {target['kind']} {target['name']} is not the Deployment"
        elif "replicas" in found["spec"]:
            yield "HorizontalPodAutoscaler: the Deployment sets its replicas, too"
        names = [one["pods"]["metric"]["name"] for one in scaler["spec"]["metrics"] if one["type"] == "Pods"]
        yield from (f"{name}: no rule of the adapter has it" for name in names if name not in offered)
        series = {name for metric in names for name in offered.get(metric, set())}
        yield from (f"{name}: the server has no such metric" for name in series - served_metrics())
        if not any("queue" in name for name in series):
            yield "HorizontalPodAutoscaler: expected the time that work waits"


def _series_of(rule: Object) -> set[str]:
    """Metrics that a rule of the adapter asks for, without the endings of a histogram's series."""
    text = f"{rule['seriesQuery']} {rule['metricsQuery']}"
    return {re.sub(r"_(sum|count|bucket)$", "", name) for name in re.findall(r"statewise_\w+", text)}
