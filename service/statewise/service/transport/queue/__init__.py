"""Serves calls on gRPC's completion queue, which the event loop polls. Never decides about a call."""

from statewise.service.transport.queue._event_loop import QueueEventLoop
from statewise.service.transport.queue._queue_server import QueueServer
from statewise.service.transport.queue._wake_up import QueueUnavailable

__all__ = [
    "QueueEventLoop",
    "QueueServer",
    "QueueUnavailable",
]
