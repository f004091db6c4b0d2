"""Counts and logs requests as they happen. Knows neither the dataplane nor a metrics library."""

from statewise.service.telemetry._logs import configure_logs, fields
from statewise.service.telemetry._slow_requests import SlowRequests
from statewise.service.telemetry._statistics import (
    OK,
    ROWS,
    SECONDS,
    Histogram,
    ModelStatistics,
    PrefixCounts,
    RunCounts,
    Statistics,
)

__all__ = [
    "OK",
    "ROWS",
    "SECONDS",
    "Histogram",
    "ModelStatistics",
    "PrefixCounts",
    "RunCounts",
    "SlowRequests",
    "Statistics",
    "configure_logs",
    "fields",
]
