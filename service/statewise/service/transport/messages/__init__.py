"""Converts messages to values and back, and failures to statuses. Never decides about a request."""

from statewise.service.transport.messages._model_message import model_message
from statewise.service.transport.messages._requests import (
    read_arrays,
    read_deadline_s,
    read_durability,
    read_sampling,
    read_sequences,
    read_start,
    read_text,
    read_uint32,
    read_uint64,
)
from statewise.service.transport.messages._responses import (
    checkpoint_message,
    fill_states,
    fill_step_response,
    generate_response,
    generate_sessions_response,
    generated_sessions_responses,
    predict_responses,
    session_info_message,
    session_message,
    states_matrix_response,
    states_response,
    transduced_response,
)
from statewise.service.transport.messages._status import STATUS_OF_REASON, row_error, status_of
from statewise.service.transport.messages._step_encoding import encode_step

__all__ = [
    "STATUS_OF_REASON",
    "checkpoint_message",
    "encode_step",
    "fill_states",
    "fill_step_response",
    "generate_response",
    "generate_sessions_response",
    "generated_sessions_responses",
    "model_message",
    "predict_responses",
    "read_arrays",
    "read_deadline_s",
    "read_durability",
    "read_sampling",
    "read_sequences",
    "read_start",
    "read_text",
    "read_uint32",
    "read_uint64",
    "row_error",
    "session_info_message",
    "session_message",
    "states_matrix_response",
    "states_response",
    "status_of",
    "transduced_response",
]
