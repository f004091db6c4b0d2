"""The server: sessions, batches and models behind gRPC.

`serve` runs it until it is told to stop; `statewise.service.testing` runs it inside a test. Nothing here
knows how models are trained or exported, or how clients call.
"""

from statewise.service.auth import CallersError, Scope, add_token
from statewise.service.base import RowFailure, ServiceError, Settings, SettingsError
from statewise.service.server import Server, ServerError, serve

__all__ = [
    "CallersError",
    "RowFailure",
    "Scope",
    "Server",
    "ServerError",
    "ServiceError",
    "Settings",
    "SettingsError",
    "add_token",
    "serve",
]
