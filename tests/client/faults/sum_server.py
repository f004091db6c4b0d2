"""Keeps the contract of sessions in a few lines, without a transport: the model adds up its inputs.

Tests send distinct powers of two, so a sum says which inputs were consumed, and how often.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tests.client.faults.held_session import HeldSession
from tests.client.faults.sum_states import SumStates

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
    states=[model_pb2.StateSpec(name="total", dtype=tensor_pb2.DATA_TYPE_INT64)],
    state_bytes=8,
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


class SumServer(SumStates):
    """Keeps the contract of the session stream's operations, and nothing else.

    Args:
        handles: gives handles and births; servers side by side share it, as real ones draw theirs at random.
    """

    def __init__(self, handles: Iterator[int] | None = None) -> None:
        self._handles = handles or itertools.count(1)
        self.sessions: dict[str, HeldSession] = {}
        self.checkpoints: dict[str, HeldSession] = {}
        """Sessions as they outlive the server, by id."""
        self.messages: list[Request] = []
        self.intercept: Callable[[Request], Response | None] = lambda request: None
        """Answers requests in the server's place; None: the server answers."""
        self.has_store = True
        """Whether some requests are stored before they are answered."""
        self._moved: set[int] = set()
        """Handles that a resume made void."""

    def forget(self) -> None:
        """Becomes a server that was killed: only stored sessions are left, at their stored position."""
        self.sessions = {name: held.copied() for name, held in self.checkpoints.items()}
        self._moved = set()

    def store(self) -> None:
        """Stores every session at its position."""
        for held in self.sessions.values():
            self._store(held)

    def _store_at_once(self, held: HeldSession) -> None:
        if self.has_store:
            self._store(held)

    def _store(self, held: HeldSession) -> None:
        self.checkpoints[self._id_of(held)] = held.copied(handle=0, before=None, older=())

    def void(self) -> None:
        """Becomes another replica on the same store: it has the sessions, but knows no handle."""
        for held in self.sessions.values():
            held.handle = 0
        self._moved = set()

    def successor(self) -> "SumServer":
        """Another server with the same store."""
        server = SumServer(self._handles)
        server.has_store = self.has_store
        server.checkpoints = {name: held.copied() for name, held in self.checkpoints.items()}
        server.forget()
        return server

    def answer(self, request: Request) -> list[Response]:
        """Handles one message; returns its replies in order."""
        self.messages.append(request)
        instead = self.intercept(request)
        if instead is not None:
            return [instead]
        operation: Any = request.WhichOneof("operation")
        found = getattr(self, f"_{operation}")(getattr(request, operation))
        return [
            Response(request_id=request.request_id, **{operation: reply})
            for reply in (found if isinstance(found, list) else [found])
        ]

    def _open(self, request: sequence_pb2.OpenSessionsRequest) -> sequence_pb2.OpenSessionsResponse:
        births = unpack_uint64(request.births).tolist() or [0] * len(request.session_ids)
        reply = sequence_pb2.OpenSessionsResponse()
        for row, (session_id, birth) in enumerate(zip(request.session_ids, births, strict=True)):
            held = self.sessions.get(session_id)
            if held is None:
                held = self._create(session_id, birth)
                held.keep = request.keep or 1
                if request.state:
                    totals = from_tensor(request.state["total"])
                    held.total = int(totals[row if len(totals) > 1 else 0])
                if request.positions:
                    held.position = int(unpack_uint64(request.positions)[row])
            if request.only_new and held.birth != birth:
                reply.errors.add(row=row, code=6, reason="SESSION_EXISTS", message="is open")
                continue
            held.holder, held.durability = birth, request.durability or held.durability
            reply.sessions.append(self._take(session_id))
        return reply

    def _resume(self, request: sequence_pb2.ResumeSessionsRequest) -> sequence_pb2.ResumeSessionsResponse:
        reply = sequence_pb2.ResumeSessionsResponse()
        births, holders = unpack_uint64(request.births).tolist(), unpack_uint64(request.holders).tolist()
        for row, session_id in enumerate(request.session_ids):
            held = self.sessions.get(session_id)
            if held is not None and (births and (held.birth, held.holder) != (births[row], holders[row])):
                reply.errors.add(row=row, code=10, reason="SESSION_MOVED", message="another one")
            elif held is not None:
                held.holder = holders[row]
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

    def _fork(self, request: sequence_pb2.ForkSessionsRequest) -> sequence_pb2.ForkSessionsResponse:
        held = self._held(int(unpack_uint64(request.handles)[0]))
        reply = sequence_pb2.ForkSessionsResponse()
        if held is None:
            self._refuse_handle(reply, request.handles)
        else:
            name = request.checkpoints[0] if request.checkpoints else ""
            if name and name not in held.named:
                reply.errors.add(code=5, reason="CHECKPOINT_NOT_FOUND", message="no such name")
            else:
                state = held.named[name] if name else (held.position, held.total)
                self._copy(*state, held.keep, request, reply)
        return reply

    def _snapshot(
        self, request: sequence_pb2.SnapshotSessionsRequest
    ) -> sequence_pb2.SnapshotSessionsResponse:
        held = self._held(int(unpack_uint64(request.handles)[0]))
        reply = sequence_pb2.SnapshotSessionsResponse()
        if held is None:
            self._refuse_handle(reply, request.handles)
        else:
            reply.tokens.append(pack_uint64([held.position, held.total, held.keep]))
        return reply

    def _restore(self, request: sequence_pb2.RestoreSessionsRequest) -> sequence_pb2.RestoreSessionsResponse:
        reply = sequence_pb2.RestoreSessionsResponse()
        position, total, keep = unpack_uint64(request.tokens[0]).tolist()
        self._copy(position, total, keep, request, reply)
        return reply

    def _copy(self, position: int, total: int, keep: int, request: Any, reply: Any) -> None:
        """Opens the one session of a fork or restore, or finds the one that an earlier try opened."""
        (session_id,), birth = request.session_ids, int(unpack_uint64(request.births)[0])
        held = self.sessions.get(session_id)
        if held is None:
            held = self._create(session_id, birth)
            held.position, held.total, held.keep, held.handle = position, total, keep, next(self._handles)
        if held.birth == birth:
            reply.sessions.append(self._describe(held))
        else:
            reply.errors.add(code=6, reason="SESSION_EXISTS", message="is open")

    def _generate(
        self, request: sequence_pb2.GenerateSessionsRequest
    ) -> list[sequence_pb2.GenerateSessionsResponse]:
        held = self._held(int(unpack_uint64(request.handles)[0]))
        position = int(unpack_uint64(request.positions)[0])
        steps, seed = int(unpack_uint32(request.steps)[0]), request.sampling.seed[0]
        reply = sequence_pb2.GenerateSessionsResponse(done=True)
        if held is None:
            self._refuse_handle(reply, request.handles)
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

    def _refuse_handle(self, reply: Any, handles: bytes, row: int = 0) -> None:
        if int(unpack_uint64(handles)[0]) in self._moved:
            reply.errors.add(row=row, code=10, reason="SESSION_MOVED", message="resumed elsewhere")
        else:
            reply.errors.add(row=row, code=5, reason="SESSION_NOT_FOUND", message="no such handle")

    def _admit(self, held: HeldSession, position: int, mine: tuple[object, ...]) -> bool:
        """Whether a request may run: at the session's position, or as a repetition of its last request."""
        if position != held.position:
            return held.repeats(position, mine)
        held.began(mine)
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
                self._refuse_handle(reply, pack_uint64([handle]), row)
                continue
            if not self._admit(held, position, mine):
                reason = "POSITION_MISMATCH"
                reply.errors.add(row=row, code=9, reason=reason, message="elsewhere", position=held.position)
                continue
            name = self._id_of(held)
            durable.append(self._durable_position(name))
            y.extend((held.total + np.cumsum(mine)).tolist())
            held.position += count
            held.total += sum(mine)
        reply.outputs["y"].CopyFrom(to_tensor(np.array(y, np.int64)))
        reply.durable_positions = pack_uint64(durable)
        return reply

    def _take(self, session_id: str) -> sequence_pb2.Session:
        held = self.sessions[session_id]
        self._moved.add(held.handle)
        held.handle = next(self._handles)
        held.epoch += 1
        return self._describe(held)

    def _create(self, session_id: str, birth: int) -> HeldSession:
        held = self.sessions[session_id] = HeldSession(0, birth=birth, holder=birth)
        return held

    def _durable_position(self, session_id: str) -> int:
        stored = self.checkpoints.get(session_id)
        return 0 if stored is None else stored.position

    def _id_of(self, held: HeldSession) -> str:
        return next(name for name, other in self.sessions.items() if other is held)

    def _describe(self, held: HeldSession) -> sequence_pb2.Session:
        session_id = self._id_of(held)
        return sequence_pb2.Session(
            session_id=session_id,
            birth=held.birth,
            epoch=held.epoch,
            handle=held.handle,
            model="sum",
            version=1,
            digest="d",
            position=held.position,
            durable_position=self._durable_position(session_id),
            durability=held.durability,
            keep=held.keep,
            kept_positions=pack_uint64(held.kept_positions),
        )
