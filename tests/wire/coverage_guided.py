"""Bytes that atheris makes up, against all that reads bytes from outside: `python coverage_guided.py`.

Tensors, columns and metadata refuse in words of their own, whatever they are given; anything else that is
raised ends the run with the bytes that did it. It begins with a right request and right metadata. Options are
libFuzzer's: -runs, -seed, -max_total_time.
"""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["statewise.wire"]):
    import numpy as np
    from google.protobuf.message import DecodeError

    from statewise.v1 import sequence_pb2
    from statewise.wire import (
        CallShape,
        MetadataError,
        ModelSpec,
        StatePair,
        TensorError,
        TensorSpec,
        from_tensor,
        pack_uint32,
        pack_uint64,
        to_tensor,
        unpack_uint32,
        unpack_uint64,
    )


def read(data: bytes) -> None:
    """As the server reads a step, and a package's metadata."""
    with suppress(MetadataError):
        ModelSpec.from_json(data.decode(errors="replace"))
    try:
        request = sequence_pb2.SessionStreamRequest.FromString(data)
    except DecodeError:
        return
    step = request.step
    for column, unpack in ((step.handles, unpack_uint64), (step.steps, unpack_uint32)):
        with suppress(TensorError):
            unpack(column)
    for name in step.inputs:
        with suppress(TensorError):
            from_tensor(step.inputs[name])


def right_bytes() -> list[bytes]:
    """What both readers take."""
    request = sequence_pb2.SessionStreamRequest(request_id=1)
    request.step.handles, request.step.steps = pack_uint64([1, 2]), pack_uint32([1, 3])
    request.step.inputs["x"].CopyFrom(to_tensor(np.ones((4, 3), np.float32)))
    spec = ModelSpec(
        inputs=(TensorSpec("x", "float32", (3,)),),
        outputs=(TensorSpec("y", "float32", (2,)),),
        state=(StatePair("h", "h_out", "float32", (4,)),),
        call_shapes=(CallShape.MANY_TO_MANY,),
    )
    return [request.SerializeToString(), spec.to_json().encode()]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(right_bytes()):
            read(data)
            Path(folder, str(number)).write_bytes(data)
        atheris.Setup([*sys.argv, folder], read)
        atheris.Fuzz()
