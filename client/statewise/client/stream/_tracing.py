"""Chooses the maker of spans; imports OpenTelemetry only if a client is given a tracer provider."""

from typing import Any

from statewise.client.stream._protocols import Tracing
from statewise.client.values import wrong


def tracing_of(tracer_provider: Any) -> Tracing | None:
    """Makes spans for a tracer provider. None, and nothing is imported, without one."""
    if tracer_provider is None:
        return None
    if not callable(getattr(tracer_provider, "get_tracer", None)):
        raise wrong("tracer_provider", "a TracerProvider of OpenTelemetry", tracer_provider)
    from statewise.client.stream._opentelemetry import OpenTelemetryTracing

    return OpenTelemetryTracing(tracer_provider)
