"""The server: sessions, batches and models behind gRPC.

`serve` runs it until it is told to stop; `statewise.service.testing` runs it inside a test. Nothing here
knows how models are trained or exported, or how clients call.
"""

from statewise.service.callers import CallersError, add_token
from statewise.service.errors import RowFailure, ServiceError
from statewise.service.identity import Scope
from statewise.service.server import Server, ServerError, serve
from statewise.service.settings import Settings, SettingsError

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
