"""Limits the calls under way, and counts them, so that connections are closed after the last call has ended.

gRPC closes a connection as soon as its last reply is in the kernel. A frame that the client sends after that,
such as a window update, resets the connection, and what the client has not read by then is lost. If gRPC is
stopped only when no call is left, it pings the client first, and closes when the client has read everything.
"""

import asyncio
from contextlib import suppress

from statewise.service.base import ServiceError
from statewise.service.transport.calls._call import Call
from statewise.wire import Reason

_RETRY_S = 1.0


class OpenCalls:
    """Calls that began before draining. Later ones are not counted: the dataplane refuses their work.

    Args:
        limit: Calls at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._draining = False
        self._all_ended = asyncio.Event()

    def add(self, call: Call) -> None:
        """Counts a call until it is over. Raises ServiceError (QUEUE_FULL) at the limit."""
        if not self._draining:
            if self._count >= self._limit:
                raise ServiceError(
                    Reason.QUEUE_FULL,
                    f"{self._limit} calls are open, as many as may be; try again in {_RETRY_S:g} s",
                    retry_after_s=_RETRY_S,
                )
            self._count += 1
            call.on_end(self._remove)

    async def drain(self, grace_s: float) -> None:
        """Returns when the calls have ended, or after the grace period."""
        self._draining = True
        if self._count:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_ended.wait(), grace_s)

    def _remove(self) -> None:
        self._count -= 1
        if self._draining and not self._count:
            self._all_ended.set()
