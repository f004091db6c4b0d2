"""The reply to a step as the bytes of its message, written around the output with one copy of its elements.

Byte for byte what protobuf writes for the same SessionStreamResponse, copying the elements three times on the
way. Only for the usual reply, one output and no failures; every other reply is a message.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.v1 import sequence_pb2
from statewise.wire import fill_tensor

Response = sequence_pb2.SessionStreamResponse


def encode_step(request_id: int, name: str, output: NDArray[Any]) -> bytes:
    """The SessionStreamResponse of a step that gave one output, with at least one element."""
    # Encoded fields may stand one after another in one message: the number, then the result.
    number = Response(request_id=request_id).SerializeToString()
    elements = np.ascontiguousarray(output)
    return b"".join((number, _before_elements(name, output.dtype, output.shape), elements.data))


@lru_cache(maxsize=1024)
def _before_elements(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """A result up to its elements, which are the last bytes of it."""
    response = Response()
    blank = np.zeros(shape, dtype)
    fill_tensor(response.step.outputs[name], blank)
    return response.SerializeToString()[: -blank.nbytes]
