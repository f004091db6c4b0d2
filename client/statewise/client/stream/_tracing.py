"""Chooses the maker of spans; imports OpenTelemetry only if a client is given a tracer provider."""

from typing import Any

from statewise.client.stream._protocols import Tracing


def tracing_of(tracer_provider: Any) -> Tracing | None:
    """Makes spans for a tracer provider. None, and nothing is imported, without one."""
    if tracer_provider is None:
        return None
    from statewise.client.stream._opentelemetry import OpenTelemetryTracing

    return OpenTelemetryTracing(tracer_provider)
