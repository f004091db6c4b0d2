"""Makes many sessions of one model, wakes them in any order, and compares each output bit for bit.

Every session has inputs of its own, which follow from its number: nothing of it is kept but its handle.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
from bench.streams import STREAM
from numpy.typing import NDArray

from statewise.service.engine import Engine
from statewise.service.packages import read_package
from statewise.v1 import sequence_pb2, sequence_pb2_grpc
from statewise.wire import from_tensor, pack_uint64, to_tensor

SIZE = 64
MODEL = f"lstm{SIZE}"
STEPS = 3
"""Steps of a session's life: one when it is opened, one that wakes it, one while it is awake."""
_FIRST, _SECOND = 1009, 1013
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]

Numbers = NDArray[np.int64]


class Reference:
    """Inputs of sessions, and the outputs that they must have.

    Args:
        repository: Of the model.
    """

    def __init__(self, repository: Path) -> None:
        package = read_package(MODEL, 1, repository / MODEL / "1")
        self._engine = Engine(package.graph, package.spec)
        random = np.random.default_rng(1)
        # The sum of a row of each: a million sessions have a million inputs.
        self._first = random.standard_normal((STEPS, _FIRST, SIZE)).astype(np.float32)
        self._second = random.standard_normal((STEPS, _SECOND, SIZE)).astype(np.float32)

    def inputs(self, numbers: Numbers) -> np.ndarray:
        """Returns the inputs of sessions, float32 [STEPS, n, SIZE]."""
        return self._first[:, numbers % _FIRST] + self._second[:, numbers // _FIRST % _SECOND]

    def outputs(self, numbers: Numbers) -> np.ndarray:
        """Computes their outputs without a server, float32 [STEPS, n, SIZE]."""
        lengths = np.full(len(numbers), STEPS, np.int32)
        state = [np.zeros((len(numbers), 2 * SIZE), np.float32)]
        (outputs, *_), _ = self._engine.run([self.inputs(numbers)], lengths, state)
        return outputs


class Sleepers:
    """The sessions 0 to n - 1 of a server, by number.

    Args:
        channel: To the server.
        reference: What they must answer.
        sessions: How many.
    """

    def __init__(self, channel: grpc.aio.Channel, reference: Reference, sessions: int) -> None:
        self._stub = sequence_pb2_grpc.SequenceServiceStub(channel)
        self._stream = channel.stream_stream(STREAM)()
        self._reference = reference
        self.handles = np.zeros(sessions, np.uint64)

    async def open(self, numbers: Numbers) -> None:
        """Opens sessions and steps them once."""
        ids = [_id(number) for number in numbers.tolist()]
        opened = await self._stub.OpenSessions(sequence_pb2.OpenSessionsRequest(model=MODEL, session_ids=ids))
        self._take_handles(numbers, opened)
        await self.step(numbers, 0)

    async def resume(self, numbers: Numbers) -> None:
        """Gets sessions by their ids; each has a new handle then."""
        ids = [_id(number) for number in numbers.tolist()]
        self._take_handles(
            numbers, await self._stub.ResumeSessions(sequence_pb2.ResumeSessionsRequest(session_ids=ids))
        )

    def _take_handles(
        self,
        numbers: Numbers,
        answer: sequence_pb2.OpenSessionsResponse | sequence_pb2.ResumeSessionsResponse,
    ) -> None:
        if len(answer.sessions) != len(numbers):
            raise RuntimeError(f"{len(answer.errors)} of {len(numbers)} failed: {answer.errors[:1]}")
        self.handles[numbers] = [session.handle for session in answer.sessions]

    async def step(self, numbers: Numbers, position: int) -> float:
        """Steps sessions in one message, compares the outputs, and returns the latency in seconds."""
        request = sequence_pb2.SessionStreamRequest(
            request_id=1,
            step=sequence_pb2.StepRequest(
                handles=pack_uint64(self.handles[numbers].tolist()),
                positions=np.full(len(numbers), position, np.uint64).tobytes(),
                inputs={"x": to_tensor(self._reference.inputs(numbers)[position])},
            ),
        )
        message = request.SerializeToString()
        begun_s = time.perf_counter()
        await self._stream.write(message)
        answered = await self._stream.read()
        latency_s = time.perf_counter() - begun_s
        reply = sequence_pb2.SessionStreamResponse.FromString(answered)
        if reply.step.errors or not reply.step.outputs:
            raise RuntimeError(f"{len(reply.step.errors)} of {len(numbers)} steps failed: {str(reply)[:500]}")
        expected = self._reference.outputs(numbers)[position]
        if from_tensor(reply.step.outputs["y"]).tobytes() != expected.tobytes():
            raise RuntimeError(f"outputs of {len(numbers)} sessions differ from those of the reference")
        return latency_s


def connected(address: str) -> grpc.aio.Channel:
    """Opens a channel in the running event loop."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)


def groups(numbers: Numbers, size: int) -> Iterator[Numbers]:
    """Cuts numbers into groups."""
    return (numbers[begin : begin + size] for begin in range(0, len(numbers), size))


def _id(number: int) -> str:
    return f"session {number:032x}"
