"""Serves models over gRPC: sessions, batched steps, predictions and generation.

`serve` runs a server until a signal stops it; `statewise.service.testing` runs one inside a test. Nothing
here knows how models are trained or exported, or how clients call.
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
