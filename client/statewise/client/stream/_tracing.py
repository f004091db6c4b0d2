"""Chooses what makes spans; imports OpenTelemetry only where a client is given a tracer provider."""

from typing import Any

from statewise.client.stream._protocols import Tracing


def tracing_of(tracer_provider: Any) -> Tracing | None:
    """What makes spans for a provider; None, and nothing is imported, where there is none."""
    if tracer_provider is None:
        return None
    from statewise.client.stream._opentelemetry import OpenTelemetryTracing

    return OpenTelemetryTracing(tracer_provider)
