"""Counts, logs and traces requests as they happen. Never reads models or the dataplane."""

from statewise.service.telemetry._logs import fields
from statewise.service.telemetry._slow_requests import SlowRequests
from statewise.service.telemetry._statistics import OK, ROWS, SECONDS, Histogram, ModelStatistics, Statistics
from statewise.service.telemetry._tracing import Tracing, export_to

__all__ = [
    "OK",
    "ROWS",
    "SECONDS",
    "Histogram",
    "ModelStatistics",
    "SlowRequests",
    "Statistics",
    "Tracing",
    "export_to",
    "fields",
]
