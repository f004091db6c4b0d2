"""What callers do with one session, as operations for the multiplexer.

A session does one thing at a time; what is asked meanwhile waits its turn, in order. A step that raises was
not applied, except where the exception left that open (a timeout, a cancellation, a server that stayed away);
the next operation finds out before it does anything.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from statewise.client.requests import Emission, Wish
from statewise.client.sessions._commands import Generating, Give, Moved, Stepping
from statewise.client.sessions._journal import Generation, Keeps
from statewise.client.sessions._remote_session import Incarnation
from statewise.client.stream import (
    AcquireTurn,
    Operation,
    OperationRunner,
    Outputs,
    RetryPolicy,
    StepBatcher,
    StepResult,
    StepRow,
    StreamMultiplexer,
    Waiter,
)
from statewise.client.values import (
    Array,
    Failed,
    InputReader,
    Inputs,
    ModelInfo,
    SessionNotFound,
    Use,
    Value,
    error_of,
    of_sequence,
    of_step,
    status_of_row,
)
from statewise.v1 import sequence_pb2
from statewise.wire import pack_uint64

T = TypeVar("T")


@dataclass(slots=True)
class Run:
    """One generation of a session.

    Attributes:
        generation: what was asked for.
        emission: its values.
        timeout_s: for all of it.
        begin: position it began from; None: it has not begun.
        whole: every value was given.
    """

    generation: Generation
    emission: Emission
    timeout_s: float | None
    begin: int | None = None
    whole: bool = False

    @classmethod
    def of(cls, model: ModelInfo, wish: Wish, *, text: bool, timeout_s: float | None) -> "Run":
        """One to come."""
        generation = Generation(wish.steps, wish.sampling.SerializeToString(deterministic=True))
        return cls(generation, Emission(model, text=text), timeout_s)


class SessionCore:
    """A session and the operations on it.

    Args:
        multiplexer: the connection.
        batcher: where its steps gather; names the model version it is pinned to.
        reader: reads inputs for that version.
        journal: keeps what it consumes.
        opened: as the server gave it.
        opening: how it was opened, where its state did not begin at the model's initial one.
    """

    __slots__ = ("__weakref__", "_busy", "_reader", "_waiting", "closed", "incarnation")

    def __init__(
        self,
        multiplexer: StreamMultiplexer,
        batcher: StepBatcher,
        reader: InputReader,
        journal: Keeps,
        opened: sequence_pb2.Session,
        opening: sequence_pb2.OpenSessionsRequest | None = None,
    ) -> None:
        self.incarnation = Incarnation(multiplexer, batcher, journal, opened, opening)
        self.closed = False
        self._reader = reader
        self._busy = False
        self._waiting: deque[Waiter] = deque()

    @property
    def model(self) -> ModelInfo:
        """The version it is pinned to."""
        return self.incarnation.model

    def step(self, value: object, batcher: StepBatcher | None = None) -> "Operation[Value] | OneStep":
        """Advances by one time step, or by several.

        Args:
            value: see `InputReader`.
            batcher: another than the session's own, for another timeout.

        Raises:
            InvalidInput: at once; of the operation: any StatewiseError.
        """
        batcher = batcher or self.incarnation.batcher
        payload = self._reader.payload_of_step(value)
        if payload is not None:
            return OneStep(self, batcher, payload)
        rows = self._reader.read(value, Use.SESSION)
        if rows.stepwise:
            return OneStep(self, batcher, tuple(column.tobytes() for column in rows.columns))
        return self._sequence(int(rows.steps[0]), rows.columns, batcher)

    def close(self) -> Operation[None]:
        """Ends the session. Ending it twice, or one that the server no longer has, is no failure."""
        while self._busy:
            yield AcquireTurn(self._waiting)
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

    def generate(self, run: "Run", give: Give) -> Operation[None]:
        """Lets the session emit values, each fed back as its next input."""
        return self._in_turn(self._generate(run, give))

    def cut_short(self, run: "Run", taken: int) -> Operation[None]:
        """Leaves the session where only the first `taken` of the values of a run were emitted.

        Done right after the run; where the session has gone on since, it is left alone.
        """
        return self._in_turn(self._cut_short(run, taken), first=True)

    # What the above come down to, each once its turn has come.

    def one_step(self, payload: Inputs, batcher: StepBatcher) -> Operation[Value]:
        """A time step that has to wait, or to find out first where the session stands."""
        reply = yield from self._in_turn(self._advance(1, payload, batcher))
        return of_step(self.model, reply.outputs)

    def mend(self, failed: Failed, payload: Inputs, batcher: StepBatcher) -> Operation[Value]:
        """Goes on with a time step that has the turn and failed."""
        try:
            reply = yield from self._insist(failed, Stepping(batcher, 1, payload))
            return of_step(self.model, reply.outputs)
        finally:
            self.end_turn()

    def _sequence(self, steps: int, columns: tuple[Array, ...], batcher: StepBatcher) -> Operation[Value]:
        # What is longer than a request may be goes in several, each applied whole or not at all.
        replies = []
        for begin in range(0, steps, batcher.room.row_steps):
            end = min(begin + batcher.room.row_steps, steps)
            payload = tuple(
                (column[begin:end] if spec.per_step else column).tobytes()
                for spec, column in zip(self.model.inputs, columns, strict=True)
            )
            reply = yield from self._in_turn(self._advance(end - begin, payload, batcher))
            replies.append(reply.outputs)
        return of_sequence(self.model, replies)

    def _advance(self, steps: int, payload: Inputs, batcher: StepBatcher) -> Operation[StepResult]:
        incarnation = self.incarnation
        try:
            reply: StepResult = yield StepRow(
                batcher, incarnation.handle, incarnation.position, steps, payload
            )
        except Failed as failed:
            return (yield from self._insist(failed, Stepping(batcher, steps, payload)))
        incarnation.applied(steps, payload, reply.durable_position)
        return reply

    def _insist(self, failed: Failed, asked: Stepping) -> Operation[StepResult]:
        reply: StepResult = yield from self.incarnation.insist(failed.status, asked)
        self.incarnation.applied(asked.steps, asked.payload, reply.durable_position)
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
        incarnation.previous = incarnation.last = None

    def _generate(self, run: "Run", give: Give) -> Operation[None]:
        run.begin = self.incarnation.position
        yield from self._emit(Generating(run.generation, run.emission, give, run.timeout_s))
        run.whole = True

    def _cut_short(self, run: "Run", taken: int) -> Operation[None]:
        incarnation = self.incarnation
        if run.begin is None:
            return
        if incarnation.last is run.generation:
            if run.whole and taken == run.emission.given:
                return
            yield from self._rewind()
        if taken and incarnation.position == run.begin:
            yield from self._emit(Generating(replace(run.generation, steps=taken)))

    def _emit(self, asked: Generating) -> Operation[None]:
        incarnation = self.incarnation
        try:
            moved: Moved = yield asked.effect(incarnation.handle, incarnation.position)
        except Failed as failed:
            moved = yield from incarnation.insist(failed.status, asked)
        steps = moved.position - incarnation.position
        if steps:  # not where the first value was the last, which is not consumed
            incarnation.applied(steps, asked.payload, moved.durable_position)

    def _ask(self, name: str, request: Any) -> Operation[Any]:
        """A request about the session's handle; a session that its server lost is built again first."""
        incarnation = self.incarnation
        policy = RetryPolicy(incarnation.multiplexer)
        while True:
            try:
                request.handles = pack_uint64([incarnation.handle])
                reply = yield from incarnation.exchange(name, request)
                if not (reply.errors and incarnation.mendable(status_of_row(reply.errors[0]))):
                    incarnation.raise_row(reply.errors)
                    return reply
                yield from incarnation.recover()
            except Failed as failed:
                if not (yield from policy.again(failed.status)):
                    raise error_of(failed.status, incarnation.subject) from None

    def _in_turn(self, body: Operation[T], *, first: bool = False) -> Operation[T]:
        """Does something once what was asked before is done."""
        while self._busy:
            yield AcquireTurn(self._waiting, first=first)
        if self.closed:
            raise SessionNotFound("it is closed", session_id=self.incarnation.id)
        self._busy = True
        try:
            if self.incarnation.unsettled:
                yield from self.incarnation.settle()
            return (yield from body)
        finally:
            self.end_turn()

    def take_turn(self) -> bool:
        """Takes the turn where that is possible at once and nothing is to be found out first."""
        if self._busy or self.closed or self.incarnation.unsettled:
            return False
        self._busy = True
        return True

    def end_turn(self) -> None:
        """Lets in whoever waits."""
        self._busy = False
        # More than one where the session was closed: those go at once.
        while self._waiting and not self._busy:
            self._waiting.popleft().resume(None)


class OneStep:
    """One time step, from the asking to its result: something under way and a row of a frame in one.

    A gateway makes so many of these that generators, and Python's garbage collector looking at them, would be
    most of their cost.

    Usually it joins the batcher at once, and the reply settles its future. An operation goes on for it where
    it has to wait for its turn, and where it failed.

    Args:
        session: which is to advance.
        batcher: where it gathers.
        payload: the inputs.
    """

    __slots__ = ("_batcher", "_runner", "_session", "future", "handle", "origin", "payload", "position")
    steps: ClassVar[int] = 1

    def __init__(self, session: SessionCore, batcher: StepBatcher, payload: Inputs) -> None:
        self._session = session
        self._batcher = batcher
        self._runner: OperationRunner[Value] | None = None
        self.payload = payload
        self.future: Any = None
        self.origin: Any = None

    # As something under way.

    def begin(self) -> None:
        """See `PendingCall`."""
        session = self._session
        if session.take_turn():
            incarnation = session.incarnation
            self.handle = incarnation.handle
            self.position = incarnation.position
            self._batcher.add(self)
        else:
            self._go_on_as(session.one_step(self.payload, self._batcher))

    def close(self) -> None:
        """See `PendingCall`."""

    def withdraw(self) -> None:
        """See `PendingCall`."""
        if self._runner is not None:
            self._runner.withdraw()
        elif self._batcher.remove(self):
            self._session.end_turn()

    # As a row.

    def answered(self, outputs: Outputs, durable_position: int) -> None:
        """See `BatchRow`."""
        session = self._session
        session.incarnation.applied(1, self.payload, durable_position)
        session.end_turn()
        if not self.future.done():
            self.future.set_result(of_step(self._batcher.model, outputs))

    def failed(self, failed: Failed) -> None:
        """See `BatchRow`."""
        self._go_on_as(self._session.mend(failed, self.payload, self._batcher))

    def _go_on_as(self, operation: Operation[Value]) -> None:
        self._runner = OperationRunner(
            self._session.incarnation.multiplexer, operation, self.future, self.origin
        )
        self._runner.begin()
