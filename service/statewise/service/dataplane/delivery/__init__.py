"""Submits the jobs of a request, and delivers what they give as it comes. Knows neither sessions nor gRPC."""

from statewise.service.dataplane.delivery._emitted import (
    GeneratedPart,
    RowBuffer,
    SessionEnds,
    parts_within,
    with_text,
)
from statewise.service.dataplane.delivery._job_calls import CancellationToken, consume
from statewise.service.dataplane.delivery._part_channel import PartChannel, generate_rows, reserve_capacity
from statewise.service.dataplane.delivery._undelivered_bytes import UndeliveredBytes

__all__ = [
    "CancellationToken",
    "GeneratedPart",
    "PartChannel",
    "RowBuffer",
    "SessionEnds",
    "UndeliveredBytes",
    "consume",
    "generate_rows",
    "parts_within",
    "reserve_capacity",
    "with_text",
]
