"""Watches a server as its operator does: by its metrics and its log."""

import re
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from tests.helpers.metrics_server import http_get
from tests.helpers.server_process import ServerProcess, ServerProcesses

METRICS = re.compile(r"liveness on http://(\S+)")


class Watched:
    """A server in a process of its own, and what it tells.

    Args:
        servers: Start it.
        log: File for its log, which must not be there yet.
        settings: As for `Settings`.
    """

    def __init__(self, servers: ServerProcesses, log: Path, **settings: Any) -> None:
        self._log = log
        self.process: ServerProcess = servers.start_logged(log, metrics_listen="127.0.0.1:0", **settings)
        self.address = self.process.address
        found = METRICS.search(self.log)
        assert found is not None, self.log
        self._metrics = found[1]

    @property
    def log(self) -> str:
        """What it has written to stderr."""
        return self._log.read_text()

    def assert_log(self, reason: str, *, outages: int) -> None:
        """Asserts that the log tells of outages, each reason of one once, and of no other failure.

        Args:
            reason: Pattern of every reason.
            outages: How many outages there were at least.
        """
        wrong = [line for line in self.log.splitlines() if not re.match(r"\S+ \S+ INFO ", line)]
        assert all(re.search(f" ERROR .*: .*({reason})", line) for line in wrong), self.log
        assert sum("sessions are not being stored" in line for line in wrong) >= outages, self.log
        told = [line.split(" ", 2)[2] for line in wrong]
        assert all(told.count(line) <= outages for line in told), self.log

    def assert_log_says(self, pattern: str) -> None:
        """Asserts that a line of the log has a pattern in it."""
        assert re.search(pattern, self.log), self.log

    def metric(self, name: str) -> float:
        """The value of a metric without labels; `name` has no prefix."""
        _, told = http_get(self._metrics, "/metrics")
        samples = (sample for family in text_string_to_metric_families(told) for sample in family.samples)
        return next(sample.value for sample in samples if sample.name == f"statewise_{name}")

    def wait_for_failures(self, count: int) -> None:
        """Waits until the store has not taken that many further checkpoints."""
        until = self.metric("checkpoint_failures_total") + count
        while self.metric("checkpoint_failures_total") < until:
            pass

    def wait_until_back(self) -> None:
        """Waits until the server says that its store takes what it is given."""
        while self.metric("store_away"):
            pass
