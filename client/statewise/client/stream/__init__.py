"""Multiplexes operations and steps over one session stream; never opens a connection and never blocks."""

from statewise.client.stream._closed import closed_error
from statewise.client.stream._effects import AcquireTurn, Exchange, Gather
from statewise.client.stream._messages import set_timeout, stream_request
from statewise.client.stream._multiplexer import StreamMultiplexer
from statewise.client.stream._operation_runner import OperationRunner
from statewise.client.stream._protocols import (
    Effect,
    Metadata,
    Operation,
    PendingCall,
    RequestQueue,
    Tracing,
    Waiter,
)
from statewise.client.stream._retries import answered, exchange, pause_before_retry
from statewise.client.stream._step_batcher import Outputs, StepBatcher, StepResult, StepRow
from statewise.client.stream._stream_connection import StreamConnection, Transport
from statewise.client.stream._tracing import tracing_of

__all__ = [
    "AcquireTurn",
    "Effect",
    "Exchange",
    "Gather",
    "Metadata",
    "Operation",
    "OperationRunner",
    "Outputs",
    "PendingCall",
    "RequestQueue",
    "StepBatcher",
    "StepResult",
    "StepRow",
    "StreamConnection",
    "StreamMultiplexer",
    "Tracing",
    "Transport",
    "Waiter",
    "answered",
    "closed_error",
    "exchange",
    "pause_before_retry",
    "set_timeout",
    "stream_request",
    "tracing_of",
]
