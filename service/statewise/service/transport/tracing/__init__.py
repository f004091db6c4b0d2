"""Begins and ends the spans of calls and stream messages. Never imported while tracing is off."""

from statewise.service.transport.tracing._spans import traced

__all__ = [
    "traced",
]
