"""Encodes the envelope and the timeout of a request of the session stream."""

import math
from collections.abc import Sequence
from typing import Any

from google.protobuf import duration_pb2

from statewise.v1 import sequence_pb2
from statewise.wire import Chunk, nested


def stream_request(request_id: int, field: str, content: Sequence[Chunk]) -> bytes:
    """Returns the message that carries a request, which is encoded already."""
    head = sequence_pb2.SessionStreamRequest(request_id=request_id).SerializeToString()
    number = sequence_pb2.SessionStreamRequest.DESCRIPTOR.fields_by_name[field].number
    return b"".join([head, *nested(number, content)])


def set_timeout(request: Any, timeout_s: float | None) -> None:
    """Puts a timeout into a request that has the field."""
    if timeout_s is not None:
        seconds = math.floor(timeout_s)
        nanos = int((timeout_s - seconds) * 1e9)
        request.timeout.CopyFrom(duration_pb2.Duration(seconds=seconds, nanos=nanos))
