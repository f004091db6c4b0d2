"""Compares hand-written encodings with protobuf's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.strategies import arrays

from statewise.v1 import sequence_pb2
from statewise.wire import named_tensor, nested, to_tensor


@given(
    inputs=st.dictionaries(st.text(max_size=8), arrays(max_dims=4, max_side=8), max_size=3),
    handles=st.binary(max_size=300),
)
def test_protobuf_reads_the_message_it_would_have_written(
    inputs: dict[str, np.ndarray], handles: bytes
) -> None:
    expected = sequence_pb2.SessionStreamRequest(request_id=7)
    expected.step.handles = handles
    for name, array in inputs.items():
        expected.step.inputs[name].CopyFrom(to_tensor(array))

    content: list[bytes | memoryview] = [sequence_pb2.StepRequest(handles=handles).SerializeToString()]
    for name, array in inputs.items():
        field = sequence_pb2.StepRequest.INPUTS_FIELD_NUMBER
        content += named_tensor(field, name, array.dtype.name, array.shape, [array.data])
    step = nested(sequence_pb2.SessionStreamRequest.STEP_FIELD_NUMBER, content)
    encoded = b"".join([sequence_pb2.SessionStreamRequest(request_id=7).SerializeToString(), *step])

    assert sequence_pb2.SessionStreamRequest.FromString(encoded) == expected


def test_elements_may_come_in_pieces() -> None:
    rows = [np.arange(6, dtype=np.float32).reshape(-1, 2), np.ones((70, 2), np.float32)]
    whole = np.concatenate(rows)
    pieces = named_tensor(4, "x", "float32", whole.shape, [row.data for row in rows])
    assert b"".join(pieces) == b"".join(named_tensor(4, "x", "float32", whole.shape, [whole.tobytes()]))
