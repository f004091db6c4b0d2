"""Multiplexes operations and steps over one session stream; never opens a connection and never waits."""

from statewise.client.stream._backoff import Backoff
from statewise.client.stream._effects import Exchange, Together
from statewise.client.stream._messages import set_timeout, stream_request
from statewise.client.stream._multiplexer import Hub, Port, Stream, closed_error
from statewise.client.stream._operation_runner import Drive
from statewise.client.stream._protocols import (
    Effect,
    Metadata,
    Operation,
    RequestQueue,
    Sink,
    Tracing,
    UnderWay,
)
from statewise.client.stream._retries import Patience, Turn, exchange
from statewise.client.stream._step_batcher import Lane, Outputs, Reply, StepRow
from statewise.client.stream._tracing import tracing_of

__all__ = [
    "Backoff",
    "Drive",
    "Effect",
    "Exchange",
    "Hub",
    "Lane",
    "Metadata",
    "Operation",
    "Outputs",
    "Patience",
    "Port",
    "Reply",
    "RequestQueue",
    "Sink",
    "StepRow",
    "Stream",
    "Together",
    "Tracing",
    "Turn",
    "UnderWay",
    "closed_error",
    "exchange",
    "set_timeout",
    "stream_request",
    "tracing_of",
]
