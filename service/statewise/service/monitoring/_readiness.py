"""Reports to probes, from any thread, whether the server is ready and whether it is alive.

A server is ready if it has started, its port answers, it serves a model version, does not drain, and has
the store that it requires. It is alive if its event loop and its port answer, or until it listens.
"""

import asyncio
import logging
import threading

from statewise.service.dataplane import Dataplane

_log = logging.getLogger(__name__)

_ANSWER_S = 2.0
_NOT_READY_CHECKS = 2
_NOT_ALIVE_CHECKS = 6


class Readiness:
    """Readiness of one server.

    Args:
        dataplane: The server's behaviour.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unanswered = 0

    def listening(self) -> None:
        """Notes that the server listens, on the running event loop."""
        self._loop = asyncio.get_running_loop()

    def port_checked(self, *, answered: bool) -> None:
        """Notes whether the port answered a call; two silences in a row: not ready, six: not alive."""
        self._unanswered = 0 if answered else self._unanswered + 1
        if self._unanswered == _NOT_READY_CHECKS:
            _log.error("the server's port does not answer: the server is not ready")

    def why_not_ready(self) -> str:
        """Returns why the server takes no requests; empty: it takes them."""
        if self._dataplane.limits.draining:
            return "the server is shutting down"
        if self._loop is None or self._dataplane.models.starting:
            return "the server is starting: its models are being loaded"
        if self._unanswered >= _NOT_READY_CHECKS:
            return "the server's port does not answer"
        if not self._dataplane.models.serves_any:
            return "the server serves no model"
        return "the session store is away" if self._dataplane.sessions.needs_store else ""

    def is_alive(self) -> bool:
        """Returns whether the server is alive. Blocks for up to two seconds."""
        if self._loop is None:
            return True
        if self._unanswered >= _NOT_ALIVE_CHECKS:
            return False
        answered = threading.Event()
        try:
            self._loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the loop is closed
            return False
        return answered.wait(_ANSWER_S)
