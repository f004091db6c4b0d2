"""Reports to probes, from any thread, whether the server is ready and whether it is alive.

A server is ready if it listens, has started, serves at least one model version and does not drain. It is
alive if its event loop answers, or until it listens.
"""

import asyncio
import threading

from statewise.service.dataplane import Dataplane

_ANSWER_S = 2.0


class Readiness:
    """Readiness of one server.

    Args:
        dataplane: The server's behaviour.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._loop: asyncio.AbstractEventLoop | None = None

    def listening(self) -> None:
        """Notes that the server listens, on the running event loop."""
        self._loop = asyncio.get_running_loop()

    def why_not_ready(self) -> str:
        """Returns why the server takes no requests; empty: it takes them."""
        if self._dataplane.limits.draining:
            return "the server is shutting down"
        if self._loop is None or self._dataplane.models.starting:
            return "the server is starting: its models are being loaded"
        return "" if self._dataplane.models.serves_any else "the server serves no model"

    def is_alive(self) -> bool:
        """Returns whether the server is alive. Blocks for up to two seconds."""
        if self._loop is None:
            return True
        answered = threading.Event()
        try:
            self._loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the loop is closed
            return False
        return answered.wait(_ANSWER_S)
