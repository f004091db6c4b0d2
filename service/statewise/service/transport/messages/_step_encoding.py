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


def encode_step(
    request_id: int, name: str, output: NDArray[Any], durable_positions: NDArray[np.uint64] | None = None
) -> bytes:
    """Returns the SessionStreamResponse of a step with one output of at least one element."""
    # Encodings of one message's fields may be joined: the number, then the result.
    number = Response(request_id=request_id).SerializeToString()
    elements = np.ascontiguousarray(output)
    if durable_positions is None:
        return b"".join((number, _around_elements(name, output.dtype, output.shape, 0)[0], elements.data))
    positions = durable_positions.astype("<u8", copy=False)
    before, between = _around_elements(name, output.dtype, output.shape, len(positions))
    return b"".join((number, before, elements.data, between, np.ascontiguousarray(positions).data))


@lru_cache(maxsize=1024)
def _around_elements(
    name: str, dtype: np.dtype[Any], shape: tuple[int, ...], positions: int
) -> tuple[bytes, bytes]:
    """Returns what stands before the elements of a result, and between them and its durable positions."""
    response = Response()
    blank = np.zeros(shape, dtype)
    fill_tensor(response.step.outputs[name], blank)
    response.step.durable_positions = bytes(8 * positions)
    encoded = response.SerializeToString()
    after = sequence_pb2.StepResponse(durable_positions=bytes(8 * positions)).SerializeToString()
    before = encoded[: len(encoded) - len(after) - blank.nbytes]
    return before, after[: len(after) - 8 * positions]
