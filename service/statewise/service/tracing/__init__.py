"""Creates the spans of requests and runs, with OpenTelemetry. Never imported while tracing is off."""

from statewise.service.tracing._tracing import Tracing, export_to

__all__ = [
    "Tracing",
    "export_to",
]
