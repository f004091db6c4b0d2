"""May the server be sent work, and does it still work? For probes, which ask from threads of their own.

Ready is: it listens, it serves at least one model version, and it is not shutting down. Alive is: its event
loop answers, or it is still loading, which may take as long as it takes.
"""

import asyncio
import threading

from statewise.service.dataplane import Dataplane

_PATIENCE_S = 2.0


class Readiness:
    """Answers of one server.

    Args:
        dataplane: Its behaviour.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._loop: asyncio.AbstractEventLoop | None = None

    def listening(self) -> None:
        """Says that the server listens, on the running event loop."""
        self._loop = asyncio.get_running_loop()

    def why_not_ready(self) -> str:
        """Why the server takes no work; empty: it does."""
        if self._dataplane.limits.draining:
            return "the server is shutting down"
        if self._loop is None:
            return "the server is starting: its models are being loaded"
        return "" if self._dataplane.models.serves_any else "the server serves no model"

    def is_alive(self) -> bool:
        """Whether the server still works. Blocks for up to two seconds."""
        if self._loop is None:
            return True
        answered = threading.Event()
        try:
            self._loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the loop is closed
            return False
        return answered.wait(_PATIENCE_S)
