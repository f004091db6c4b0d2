"""Builds requests that need no session and reads their answers; never sends them."""

from statewise.client.requests._attempts import Attempts
from statewise.client.requests._conditions import Conditions
from statewise.client.requests._generation import (
    Emission,
    Retries,
    Wish,
    generate_request,
    gives_text,
    read_piece,
)
from statewise.client.requests._plans import (
    LEAVING_S,
    REPLAY_BYTES,
    Call,
    Options,
    Plan,
    Run,
    Wait,
    answer_wait_s,
)
from statewise.client.requests._predict import Answers, Query

__all__ = [
    "LEAVING_S",
    "REPLAY_BYTES",
    "Answers",
    "Attempts",
    "Call",
    "Conditions",
    "Emission",
    "Options",
    "Plan",
    "Query",
    "Retries",
    "Run",
    "Wait",
    "Wish",
    "answer_wait_s",
    "generate_request",
    "gives_text",
    "read_piece",
]
