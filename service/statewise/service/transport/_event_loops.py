"""Makes the event loop of a server: the loop decides which transport serves."""

import asyncio
import logging

from statewise.service.transport.aio import AioEventLoop
from statewise.service.transport.queue import QueueEventLoop, QueueUnavailable

_log = logging.getLogger(__name__)


def make_event_loop(transport: str) -> asyncio.AbstractEventLoop:
    """Returns a new event loop for a transport.

    Args:
        transport: "queue" or "aio". Where the queue cannot be used, the log says so and the loop is one
            for "aio".
    """
    if transport == "queue":
        try:
            return QueueEventLoop()
        except QueueUnavailable as error:
            _log.warning("transport = 'queue' cannot be used (%s); the server takes 'aio'", error)
    return AioEventLoop()
