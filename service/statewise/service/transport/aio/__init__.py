"""Serves calls with grpc.aio, on any event loop of asyncio. Never decides about a call."""

from statewise.service.transport.aio._aio_server import AioServer
from statewise.service.transport.aio._event_loop import AioEventLoop

__all__ = [
    "AioEventLoop",
    "AioServer",
]
