"""Speaks gRPC: the only folder that imports grpc. Never decides about models or sessions."""

from statewise.service.transport._auth_interceptor import AuthInterceptor
from statewise.service.transport._listening import (
    TransportError,
    add_reflection,
    allow_many_connections,
    check_exposure,
    listen,
    options,
)
from statewise.service.transport._tls import TlsError

__all__ = [
    "AuthInterceptor",
    "TlsError",
    "TransportError",
    "add_reflection",
    "allow_many_connections",
    "check_exposure",
    "listen",
    "options",
]
