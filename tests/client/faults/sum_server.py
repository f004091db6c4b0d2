"""Keeps the contract of sessions in a few lines, without a transport: the model adds up its inputs.

Tests send distinct powers of two, so a sum says which inputs were consumed, and how often.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from statewise.v1 import model_pb2, sequence_pb2, tensor_pb2
from statewise.wire import (
    from_tensor,
    pack_uint32,
    pack_uint64,
    to_tensor,
    unpack_uint32,
    unpack_uint64,
)

Request = sequence_pb2.SessionStreamRequest
Response = sequence_pb2.SessionStreamResponse

MODEL = model_pb2.Model(
    name="sum",
    version=1,
    digest="d",
    exactness=model_pb2.EXACTNESS_EXACT,
    inputs=[model_pb2.TensorSpec(name="x", dtype=tensor_pb2.DATA_TYPE_INT64, per_step=True)],
    outputs=[model_pb2.TensorSpec(name="y", dtype=tensor_pb2.DATA_TYPE_INT64, per_step=True)],
    streamable=True,
    generative=True,
    emitted=model_pb2.TensorSpec(name="e", dtype=tensor_pb2.DATA_TYPE_INT64, per_step=True),
)
END = 6
"""The value that ends a generation: emitted, not consumed."""


def emitted(position: int, total: int, steps: int, seed: int) -> list[int]:
    """Computes the values that the model emits; each but the end is added up like an input."""
    values: list[int] = []
    while len(values) < steps and END not in values:
        values.append((total + position + seed) % 7)
        total += values[-1]
        position += 1
    return values


@dataclass
class HeldSession:
    """A session on the server."""

    handle: int
    position: int = 0
    total: int = 0
    before: tuple[int, int, tuple[object, ...]] | None = None
    """Position and total before the last request, and its input."""


class SumServer:
    """Keeps the contract of open, resume, step, generate, rewind, close and cancel, and nothing else."""

    def __init__(self) -> None:
        self.sessions: dict[str, HeldSession] = {}
        self.checkpoints: dict[str, tuple[int, int]] = {}
        """Position and total that outlive the server, by session id."""
        self.messages: list[Request] = []
        self.intercept: Callable[[Request], Response | None] = lambda request: None
        """Answers requests in the server's place; None: the server answers."""
        self._handle = 0

    def forget(self) -> None:
        """Becomes a server that was killed: only stored sessions are left, at their stored position."""
        self.sessions = {
            name: HeldSession(0, position, total) for name, (position, total) in self.checkpoints.items()
        }

    def store(self) -> None:
        """Stores every session at its position."""
        self.checkpoints = {name: (held.position, held.total) for name, held in self.sessions.items()}

    def void(self) -> None:
        """Becomes another replica on the same store: it has the sessions, but knows no handle."""
        for held in self.sessions.values():
            held.handle = 0

    def answer(self, request: Request) -> list[Response]:
        """Handles one message; returns its replies in order."""
        self.messages.append(request)
        instead = self.intercept(request)
        if instead is not None:
            return [instead]
        operation = request.WhichOneof("operation")
        found = getattr(self, f"_{operation}")(getattr(request, operation))
        return [
            Response(request_id=request.request_id, **{operation: reply})
            for reply in (found if isinstance(found, list) else [found])
        ]

    def _open(self, request: sequence_pb2.OpenSessionsRequest) -> sequence_pb2.OpenSessionsResponse:
        for session_id in request.session_ids:
            self.sessions.setdefault(session_id, HeldSession(0))
        return sequence_pb2.OpenSessionsResponse(sessions=[self._take(i) for i in request.session_ids])

    def _resume(self, request: sequence_pb2.ResumeSessionsRequest) -> sequence_pb2.ResumeSessionsResponse:
        reply = sequence_pb2.ResumeSessionsResponse()
        for row, session_id in enumerate(request.session_ids):
            if session_id in self.sessions:
                reply.sessions.append(self._take(session_id))
            else:
                reply.errors.add(row=row, code=5, reason="SESSION_NOT_FOUND", message="not open")
        return reply

    def _close(self, request: sequence_pb2.CloseSessionsRequest) -> sequence_pb2.CloseSessionsResponse:
        gone = set(unpack_uint64(request.handles).tolist())
        for name in [name for name, held in self.sessions.items() if held.handle in gone]:
            del self.sessions[name]
            self.checkpoints.pop(name, None)
        return sequence_pb2.CloseSessionsResponse()

    def _cancel(self, request: sequence_pb2.CancelRequest) -> sequence_pb2.CancelResponse:
        return sequence_pb2.CancelResponse()

    def _rewind(self, request: sequence_pb2.RewindSessionsRequest) -> sequence_pb2.RewindSessionsResponse:
        held = self._held(int(unpack_uint64(request.handles)[0]))
        reply = sequence_pb2.RewindSessionsResponse()
        if held is None:
            reply.errors.add(code=5, reason="SESSION_NOT_FOUND", message="no such handle")
            return reply
        if held.position != int(unpack_uint64(request.positions)[0]):
            assert held.before is not None
            held.position, held.total, _ = held.before
        held.before = None
        return reply

    def _generate(
        self, request: sequence_pb2.GenerateSessionsRequest
    ) -> list[sequence_pb2.GenerateSessionsResponse]:
        held = self._held(int(unpack_uint64(request.handles)[0]))
        position = int(unpack_uint64(request.positions)[0])
        steps, seed = int(unpack_uint32(request.steps)[0]), request.sampling.seed[0]
        reply = sequence_pb2.GenerateSessionsResponse(done=True)
        if held is None:
            reply.errors.add(code=5, reason="SESSION_NOT_FOUND", message="no such handle")
            return [reply]
        if not self._admit(held, position, ("generated", steps, seed)):
            reply.errors.add(code=9, reason="POSITION_MISMATCH", message="elsewhere", position=held.position)
            return [reply]
        values = emitted(held.position, held.total, steps, seed)
        chunks = []
        for begin in range(0, len(values), 2):
            chunk = values[begin : begin + 2]
            consumed = [value for value in chunk if value != END]
            held.position += len(consumed)
            held.total += sum(consumed)
            chunks.append(
                sequence_pb2.GenerateSessionsResponse(
                    rows=pack_uint32([0]),
                    lengths=pack_uint32([len(chunk)]),
                    positions=pack_uint64([held.position]),
                    done=begin + 2 >= len(values),
                )
            )
            chunks[-1].outputs["e"].CopyFrom(to_tensor(np.array(chunk, np.int64)))
        return chunks

    def _held(self, handle: int) -> HeldSession | None:
        return next((held for held in self.sessions.values() if held.handle == handle), None)

    def _admit(self, held: HeldSession, position: int, mine: tuple[object, ...]) -> bool:
        """Whether a request may run: at the session's position, or as a repetition of its last request."""
        if position != held.position:
            before = held.before
            if before is None or before[0] != position or before[2] != mine:
                return False
            held.position, held.total = before[0], before[1]
        held.before = (held.position, held.total, mine)
        return True

    def _step(self, request: sequence_pb2.StepRequest) -> sequence_pb2.StepResponse:
        handles = unpack_uint64(request.handles).tolist()
        steps = unpack_uint32(request.steps).tolist() or [1] * len(handles)
        x = from_tensor(request.inputs["x"]).tolist()
        reply = sequence_pb2.StepResponse()
        y: list[int] = []
        durable: list[int] = []
        positions = unpack_uint64(request.positions).tolist()
        for row, (handle, position, count) in enumerate(zip(handles, positions, steps, strict=True)):
            mine, x = tuple(x[:count]), x[count:]
            held = self._held(handle)
            if held is None:
                reply.errors.add(row=row, code=5, reason="SESSION_NOT_FOUND", message="no such handle")
                continue
            if not self._admit(held, position, mine):
                reason = "POSITION_MISMATCH"
                reply.errors.add(row=row, code=9, reason=reason, message="elsewhere", position=held.position)
                continue
            name = next(name for name, other in self.sessions.items() if other is held)
            durable.append(self.checkpoints.get(name, (0, 0))[0])
            y.extend((held.total + np.cumsum(mine)).tolist())
            held.position += count
            held.total += sum(mine)
        reply.outputs["y"].CopyFrom(to_tensor(np.array(y, np.int64)))
        reply.durable_positions = pack_uint64(durable)
        return reply

    def _take(self, session_id: str) -> sequence_pb2.Session:
        self._handle += 1
        held = self.sessions[session_id]
        held.handle = self._handle
        return sequence_pb2.Session(
            session_id=session_id,
            handle=held.handle,
            model="sum",
            version=1,
            digest="d",
            position=held.position,
            durable_position=self.checkpoints.get(session_id, (0, 0))[0],
        )
