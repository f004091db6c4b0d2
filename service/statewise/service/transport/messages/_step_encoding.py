"""Encodes the reply to a step as bytes, with one copy of the output's elements.

The bytes are those that protobuf writes for the same SessionStreamResponse, with three copies. Only the usual
reply, one output and no failures, is encoded here; every other reply is a message.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.v1 import sequence_pb2
from statewise.wire import fill_tensor

Response = sequence_pb2.SessionStreamResponse


def encode_step(request_id: int, name: str, output: NDArray[Any]) -> bytes:
    """Returns the SessionStreamResponse of a step with one output of at least one element."""
    # Encodings of one message's fields may be joined: the number, then the result.
    number = Response(request_id=request_id).SerializeToString()
    elements = np.ascontiguousarray(output)
    return b"".join((number, _before_elements(name, output.dtype, output.shape), elements.data))


@lru_cache(maxsize=1024)
def _before_elements(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Returns a result without its elements, which are its last bytes."""
    response = Response()
    blank = np.zeros(shape, dtype)
    fill_tensor(response.step.outputs[name], blank)
    return response.SerializeToString()[: -blank.nbytes]
