"""What callers do with one session, as operations for the hub.

A session does one thing at a time; what is asked meanwhile waits its turn, in order. A step that raises was
not applied, except where the exception left that open (a timeout, a cancellation, a server that stayed away);
the next operation finds out before it does anything.
"""

from collections import deque
from typing import Any, TypeVar

from statewise.client._effects import Operation, Sink
from statewise.client._errors import SessionNotFound
from statewise.client._generation import emitted
from statewise.client._hub import Hub
from statewise.client._incarnation import Incarnation
from statewise.client._info import ModelInfo
from statewise.client._inputs import Array, InputReader, Use
from statewise.client._journal import Keeps, Payload
from statewise.client._lanes import Lane, Reply, StepRow
from statewise.client._outputs import Value, of_sequence, of_step
from statewise.client._persist import Turn
from statewise.client._status import Failed
from statewise.v1 import sequence_pb2
from statewise.wire import pack_uint32, pack_uint64, unpack_uint64

T = TypeVar("T")


class SessionCore:
    """A session and the operations on it.

    Args:
        hub: the connection.
        lane: where its steps gather; names the model version it is pinned to.
        reader: reads inputs for that version.
        journal: keeps what it consumes.
        opened: as the server gave it.
    """

    __slots__ = ("__weakref__", "_busy", "_reader", "_waiting", "closed", "incarnation")

    def __init__(
        self, hub: Hub, lane: Lane, reader: InputReader, journal: Keeps, opened: sequence_pb2.Session
    ) -> None:
        self.incarnation = Incarnation(hub, lane, journal, opened)
        self.closed = False
        self._reader = reader
        self._busy = False
        self._waiting: deque[Sink] = deque()

    @property
    def model(self) -> ModelInfo:
        """The version it is pinned to."""
        return self.incarnation.model

    def step(self, value: object, lane: Lane | None = None) -> Operation[Value]:
        """Advances by one time step, or by several.

        Args:
            value: see `InputReader`.
            lane: another than the session's own, for another timeout.

        Raises:
            InvalidInput: at once; of the operation: any StatewiseError.
        """
        lane = lane or self.incarnation.lane
        payload = self._reader.payload_of_step(value)
        if payload is not None:
            return self._one_step(payload, lane)
        rows = self._reader.read(value, Use.SESSION)
        if rows.stepwise:
            return self._one_step(tuple(column.tobytes() for column in rows.columns), lane)
        return self._sequence(int(rows.steps[0]), rows.columns, lane)

    def close(self) -> Operation[None]:
        """Ends the session. Ending it twice, or one that the server no longer has, is no failure."""
        while self._busy:
            yield Turn(self._waiting)
        if not self.closed:
            yield from self._in_turn(self._close())

    def fork(self, session_id: str) -> Operation[sequence_pb2.Session]:
        """Copies the session under a new id."""
        return self._in_turn(self._fork(session_id))

    def snapshot(self) -> Operation[bytes]:
        """Takes the state out."""
        return self._in_turn(self._snapshot())

    def rewind(self) -> Operation[None]:
        """Undoes the last request."""
        return self._in_turn(self._rewind())

    def generate(self, steps: int, sampling: sequence_pb2.Sampling) -> Operation[list[Value]]:
        """Lets the session emit up to `steps` values."""
        return self._in_turn(self._generate(steps, sampling))

    # What the above come down to, each once its turn has come.

    def _one_step(self, payload: Payload, lane: Lane) -> Operation[Value]:
        reply = yield from self._in_turn(self._advance(1, payload, lane))
        return of_step(self.model, reply.outputs)

    def _sequence(self, steps: int, columns: tuple[Array, ...], lane: Lane) -> Operation[Value]:
        # What is longer than a request may be goes in several, each applied whole or not at all.
        replies = []
        for begin in range(0, steps, lane.room.row_steps):
            end = min(begin + lane.room.row_steps, steps)
            payload = tuple(
                (column[begin:end] if spec.per_step else column).tobytes()
                for spec, column in zip(self.model.inputs, columns, strict=True)
            )
            reply = yield from self._in_turn(self._advance(end - begin, payload, lane))
            replies.append(reply.outputs)
        return of_sequence(self.model, replies)

    def _advance(self, steps: int, payload: Payload, lane: Lane) -> Operation[Reply]:
        incarnation = self.incarnation
        try:
            reply: Reply = yield StepRow(lane, incarnation.handle, incarnation.position, steps, payload)
        except Failed as failed:
            reply = yield from incarnation.insist(failed.status, steps, payload, lane)
        incarnation.applied(steps, payload, reply.durable_position)
        return reply

    def _close(self) -> Operation[None]:
        yield from self._ask("close", sequence_pb2.CloseSessionsRequest())
        self.closed = True
        self.incarnation.journal.clear()

    def _fork(self, session_id: str) -> Operation[sequence_pb2.Session]:
        reply = yield from self._ask("fork", sequence_pb2.ForkSessionsRequest(session_ids=[session_id]))
        session: sequence_pb2.Session = reply.sessions[0]
        return session

    def _snapshot(self) -> Operation[bytes]:
        reply = yield from self._ask("snapshot", sequence_pb2.SnapshotSessionsRequest())
        token: bytes = reply.tokens[0]
        return token

    def _rewind(self) -> Operation[None]:
        incarnation = self.incarnation
        target = incarnation.position if incarnation.previous is None else incarnation.previous
        yield from self._ask("rewind", sequence_pb2.RewindSessionsRequest(positions=pack_uint64([target])))
        incarnation.journal.rewind(target)
        incarnation.position = target
        incarnation.previous = None

    def _generate(self, steps: int, sampling: sequence_pb2.Sampling) -> Operation[list[Value]]:
        incarnation = self.incarnation
        request = sequence_pb2.GenerateSessionsRequest(
            positions=pack_uint64([incarnation.position]), steps=pack_uint32([steps]), sampling=sampling
        )
        pieces = yield from self._ask("generate", request)
        incarnation.previous = incarnation.position
        for piece in pieces:
            if piece.positions:
                incarnation.position = int(unpack_uint64(piece.positions)[-1])
        # What was emitted is in no journal, so nothing can be built again from this one either.
        incarnation.journal.clear()
        return [value for piece in pieces for value in emitted(self.model, piece)]

    def _ask(self, name: str, request: Any) -> Operation[Any]:
        """A request about the session's handle."""
        request.handles = pack_uint64([self.incarnation.handle])
        reply = yield from self.incarnation.exchange(name, request)
        for piece in reply if isinstance(reply, list) else [reply]:
            self.incarnation.raise_row(piece.errors)
        return reply

    def _in_turn(self, body: Operation[T]) -> Operation[T]:
        """Does something once what was asked before is done."""
        while self._busy:
            yield Turn(self._waiting)
        if self.closed:
            raise SessionNotFound("it is closed", session_id=self.incarnation.id)
        self._busy = True
        try:
            if self.incarnation.doubt is not None:
                yield from self.incarnation.settle()
            return (yield from body)
        finally:
            self._busy = False
            if self._waiting:
                self._waiting.popleft().resume(None)
