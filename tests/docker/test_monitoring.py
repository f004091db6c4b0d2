"""Asks Prometheus beside three replicas: all targets are scraped, and every query of the dashboard has data.

The queries go to Prometheus through the data source that is provisioned for Grafana.
"""

import json
from collections import Counter
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import grpc
import numpy as np
import pytest
from tests.docker.engine import eventually
from tests.docker.stack import ROOT, Stack

from statewise.client import Client, InvalidInput
from statewise.v1.sequence_pb2 import PredictRequest
from statewise.v1.sequence_pb2_grpc import SequenceServiceStub

DASHBOARD = json.loads((ROOT / "docker/grafana/dashboards/statewise.json").read_text())
QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
SCRAPES_S = 60.0  # a rate needs two


def asked(stack: Stack, path: str, **parameters: str) -> Any:
    """Prometheus' answer to a query through the data source that is provisioned for Grafana."""
    source = f"http://127.0.0.1:{stack.grafana_port}/api/datasources/proxy/uid/prometheus"
    with urlopen(f"{source}/api/v1/{path}?{urlencode(parameters)}") as reply:
        return json.load(reply)["data"]


@pytest.fixture(scope="module")
def busy(everything: Stack) -> Stack:
    """Replicas with at least one event for every metric."""
    samples = np.linspace(0, 200, 24, dtype=np.float32)[:, None]
    for replica in everything.containers("server"):
        address = replica.address()
        with Client(address) as client, client.session("sunspots") as session:
            for sample in samples:
                session.step(sample)
            client.predict("sunspots", [samples] * 8)
            with pytest.raises(InvalidInput):
                session.step(np.array([np.nan], np.float32))
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
            list(SequenceServiceStub(channel).Predict(PredictRequest(model="nothing")))
    return everything


def test_every_target_is_scraped(everything: Stack) -> None:
    def up() -> bool:
        targets = asked(everything, "targets", state="active")["activeTargets"]
        healthy = Counter(target["labels"]["job"] for target in targets if target["health"] == "up")
        return healthy == {"statewise": 3, "haproxy": 1, "prometheus": 1} and len(targets) == 5

    eventually(up, within_s=SCRAPES_S, what="five targets that are up")


@pytest.mark.parametrize("panel", QUERIES)
def test_a_query_of_the_dashboard_has_an_answer(busy: Stack, panel: str) -> None:
    expression = QUERIES[panel].replace("$__rate_interval", "1m")

    def values() -> list[float]:
        found = asked(busy, "query", query=expression)["result"]
        return [float(series["value"][1]) for series in found]

    eventually(lambda: np.isfinite(values()).any(), within_s=SCRAPES_S, what=f"data for {expression}")
