"""Opens gRPC channels and translates their errors; the only folder that imports grpc."""

from statewise.client.transport._async_connection import AsyncConnection
from statewise.client.transport._channel import ENDED, KEEPALIVE_S, STREAMING, Endpoint, Tls
from statewise.client.transport._open_shells import open_shells
from statewise.client.transport._sync_connection import SyncConnection

__all__ = [
    "ENDED",
    "KEEPALIVE_S",
    "STREAMING",
    "AsyncConnection",
    "Endpoint",
    "SyncConnection",
    "Tls",
    "open_shells",
]
