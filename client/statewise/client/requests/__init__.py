"""Builds requests and reads their replies, and describes the plans that send them; never performs one."""

from statewise.client.requests._call_retries import GenerateRetries, call, wait_before_retry
from statewise.client.requests._conditions import Conditions
from statewise.client.requests._generation import (
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
from statewise.client.requests._predict import Answers, Query

__all__ = [
    "CLOSE_TIMEOUT_S",
    "REPLAY_BYTES",
    "Answers",
    "Call",
    "ClientOptions",
    "Conditions",
    "GenerateOptions",
    "GenerateRetries",
    "Operate",
    "OutputCursor",
    "Plan",
    "Query",
    "Wait",
    "answer_wait_s",
    "call",
    "generate_request",
    "gives_text",
    "wait_before_retry",
]
