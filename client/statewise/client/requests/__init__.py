"""Builds requests and reads their replies, and describes the plans that send them; never performs one."""

from statewise.client.requests._beginnings import (
    Beginnings,
    GivenStates,
    OpenOptions,
)
from statewise.client.requests._call_retries import GenerateRetries, call, wait_before_retry
from statewise.client.requests._generation import (
    GenerateFrom,
    GenerateOptions,
    OutputCursor,
    generate_request,
    gives_text,
)
from statewise.client.requests._plans import (
    CLOSE_TIMEOUT_S,
    REPLAY_BYTES,
    Call,
    ClientOptions,
    Operate,
    Plan,
    Wait,
    answer_wait_s,
)
from statewise.client.requests._positions import read_positions
from statewise.client.requests._predict import Answers, Query

__all__ = [
    "CLOSE_TIMEOUT_S",
    "REPLAY_BYTES",
    "Answers",
    "Beginnings",
    "Call",
    "ClientOptions",
    "GenerateFrom",
    "GenerateOptions",
    "GenerateRetries",
    "GivenStates",
    "OpenOptions",
    "Operate",
    "OutputCursor",
    "Plan",
    "Query",
    "Wait",
    "answer_wait_s",
    "call",
    "generate_request",
    "gives_text",
    "read_positions",
    "wait_before_retry",
]
