"""Begins and ends the spans of gRPC calls and stream messages. Never imported while tracing is off."""

from statewise.service.transport.tracing._interceptor import TracingInterceptor

__all__ = [
    "TracingInterceptor",
]
