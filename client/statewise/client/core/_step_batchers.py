"""Keeps one step batcher for each model version and timeout."""

from statewise.client.core._catalogue import Catalogue
from statewise.client.requests import ClientOptions, Plan
from statewise.client.stream import StepBatcher, StreamMultiplexer
from statewise.client.values import ModelInfo, RequestLimits

# Callers that pass their remaining time as the timeout have a different timeout at every step.
_MOST_BATCHERS = 64


class StepBatchers:
    """The step batchers of one client.

    Args:
        multiplexer: the connection.
        options: how the client behaves.
        catalogue: knows the server's limits.
    """

    def __init__(self, multiplexer: StreamMultiplexer, options: ClientOptions, catalogue: Catalogue) -> None:
        self._multiplexer = multiplexer
        self._options = options
        self._catalogue = catalogue
        self._batchers: dict[tuple[str, int, str, float | None], StepBatcher] = {}

    def of(self, model: ModelInfo, timeout_s: float | None) -> StepBatcher:
        """Returns the batcher for steps with this timeout. The server's limits must have been looked up."""
        key = (model.name, model.version, model.digest, timeout_s)
        batcher = self._batchers.pop(key, None)
        if batcher is None:
            request_limits = RequestLimits.for_steps(self._catalogue.known_limits, model)
            batcher = StepBatcher(self._multiplexer, model, request_limits, timeout_s)
            if len(self._batchers) == _MOST_BATCHERS:
                # The least recently used one. Rows that wait in it are sent all the same.
                del self._batchers[next(iter(self._batchers))]
        self._batchers[key] = batcher
        return batcher

    def default(self, model: ModelInfo, timeout_s: float | None) -> Plan[StepBatcher]:
        """Finds the batcher for steps without their own timeout; `timeout_s` is for looking up limits."""
        yield from self._catalogue.limits(timeout_s)
        return self.of(model, self._options.timeout_s)
