"""Multiplexes operations and steps over one session stream; never opens a connection and never waits."""

from statewise.client.stream._backoff import Backoff
from statewise.client.stream._effects import Exchange, Gather
from statewise.client.stream._messages import set_timeout, stream_request
from statewise.client.stream._multiplexer import StreamConnection, StreamMultiplexer, Transport, closed_error
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
from statewise.client.stream._retries import AcquireTurn, RetryPolicy, exchange
from statewise.client.stream._step_batcher import Outputs, StepBatcher, StepResult, StepRow
from statewise.client.stream._tracing import tracing_of

__all__ = [
    "AcquireTurn",
    "Backoff",
    "Effect",
    "Exchange",
    "Gather",
    "Metadata",
    "Operation",
    "OperationRunner",
    "Outputs",
    "PendingCall",
    "RequestQueue",
    "RetryPolicy",
    "StepBatcher",
    "StepResult",
    "StepRow",
    "StreamConnection",
    "StreamMultiplexer",
    "Tracing",
    "Transport",
    "Waiter",
    "closed_error",
    "exchange",
    "set_timeout",
    "stream_request",
    "tracing_of",
]
