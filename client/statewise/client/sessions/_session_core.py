"""What callers do with one session, as operations for the multiplexer.

A session does one thing at a time; what is asked meanwhile waits its turn, in order. A step that raises was
not applied, except where the exception left that open (a timeout, a cancellation, a server that stayed away);
the next operation finds out before it does anything.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from statewise.client.requests import GenerateOptions, OutputCursor
from statewise.client.sessions._commands import GenerateCommand, GenerateResult, OnValues, StepCommand
from statewise.client.sessions._journal import GeneratePayload, JournalProtocol
from statewise.client.sessions._remote_session import RemoteSession
from statewise.client.stream import (
    AcquireTurn,
    Operation,
    OperationRunner,
    Outputs,
    StepBatcher,
    StepResult,
    StepRow,
    StreamMultiplexer,
    Waiter,
    pause_before_retry,
)
from statewise.client.values import (
    Array,
    Failed,
    InputBytes,
    InputReader,
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
class SessionGeneration:
    """One generation of a session.

    Attributes:
        payload: what was asked for.
        cursor: its values.
        timeout_s: for all of it.
        begin: position it began from; None: it has not begun.
        whole: every value was given.
    """

    payload: GeneratePayload
    cursor: OutputCursor
    timeout_s: float | None
    begin: int | None = None
    whole: bool = False

    @classmethod
    def of(
        cls, model: ModelInfo, generate_options: GenerateOptions, *, text: bool, timeout_s: float | None
    ) -> "SessionGeneration":
        """One to come."""
        payload = GeneratePayload(
            generate_options.steps, generate_options.sampling.SerializeToString(deterministic=True)
        )
        return cls(payload, OutputCursor(model, text=text), timeout_s)


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

    __slots__ = ("__weakref__", "_busy", "_reader", "_waiting", "closed", "remote")

    def __init__(
        self,
        multiplexer: StreamMultiplexer,
        batcher: StepBatcher,
        reader: InputReader,
        journal: JournalProtocol,
        opened: sequence_pb2.Session,
        opening: sequence_pb2.OpenSessionsRequest | None = None,
    ) -> None:
        self.remote = RemoteSession(multiplexer, batcher, journal, opened, opening)
        self.closed = False
        self._reader = reader
        self._busy = False
        self._waiting: deque[Waiter] = deque()

    @property
    def model(self) -> ModelInfo:
        """The version it is pinned to."""
        return self.remote.model

    def step(self, value: object, batcher: StepBatcher | None = None) -> "Operation[Value] | OneStep":
        """Advances by one time step, or by several.

        Args:
            value: see `InputReader`.
            batcher: another than the session's own, for another timeout.

        Raises:
            InvalidInput: at once; of the operation: any StatewiseError.
        """
        batcher = batcher or self.remote.batcher
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

    def generate(self, generation: "SessionGeneration", on_values: OnValues) -> Operation[None]:
        """Lets the session emit values, each fed back as its next input."""
        return self._in_turn(self._generate(generation, on_values))

    def cut_short(self, generation: "SessionGeneration", taken: int) -> Operation[None]:
        """Leaves the session where only the first `taken` of the values of a run were emitted.

        Done right after the run; where the session has gone on since, it is left alone.
        """
        return self._in_turn(self._cut_short(generation, taken), first=True)

    # What the above come down to, each once its turn has come.

    def one_step(self, payload: InputBytes, batcher: StepBatcher) -> Operation[Value]:
        """A time step that has to wait, or to find out first where the session stands."""
        reply = yield from self._in_turn(self._advance(1, payload, batcher))
        return of_step(self.model, reply.outputs)

    def retry_step(self, failed: Failed, payload: InputBytes, batcher: StepBatcher) -> Operation[Value]:
        """Goes on with a time step that has the turn and failed."""
        try:
            reply = yield from self._retry_until_applied(failed, StepCommand(batcher, 1, payload))
            return of_step(self.model, reply.outputs)
        finally:
            self.release_turn()

    def _sequence(self, steps: int, columns: tuple[Array, ...], batcher: StepBatcher) -> Operation[Value]:
        # What is longer than a request may be goes in several, each applied whole or not at all.
        replies = []
        for begin in range(0, steps, batcher.request_limits.row_steps):
            end = min(begin + batcher.request_limits.row_steps, steps)
            payload = tuple(
                (column[begin:end] if spec.per_step else column).tobytes()
                for spec, column in zip(self.model.inputs, columns, strict=True)
            )
            reply = yield from self._in_turn(self._advance(end - begin, payload, batcher))
            replies.append(reply.outputs)
        return of_sequence(self.model, replies)

    def _advance(self, steps: int, payload: InputBytes, batcher: StepBatcher) -> Operation[StepResult]:
        remote = self.remote
        try:
            reply: StepResult = yield StepRow(batcher, remote.handle, remote.position, steps, payload)
        except Failed as failed:
            return (yield from self._retry_until_applied(failed, StepCommand(batcher, steps, payload)))
        remote.applied(steps, payload, reply.durable_position)
        return reply

    def _retry_until_applied(self, failed: Failed, command: StepCommand) -> Operation[StepResult]:
        reply: StepResult = yield from self.remote.retry_until_applied(failed.status, command)
        self.remote.applied(command.steps, command.payload, reply.durable_position)
        return reply

    def _close(self) -> Operation[None]:
        yield from self._ask("close", sequence_pb2.CloseSessionsRequest())
        self.closed = True
        self.remote.journal.clear()

    def _fork(self, session_id: str) -> Operation[sequence_pb2.Session]:
        reply = yield from self._ask("fork", sequence_pb2.ForkSessionsRequest(session_ids=[session_id]))
        session: sequence_pb2.Session = reply.sessions[0]
        return session

    def _snapshot(self) -> Operation[bytes]:
        reply = yield from self._ask("snapshot", sequence_pb2.SnapshotSessionsRequest())
        token: bytes = reply.tokens[0]
        return token

    def _rewind(self) -> Operation[None]:
        remote = self.remote
        target = remote.position if remote.previous is None else remote.previous
        yield from self._ask("rewind", sequence_pb2.RewindSessionsRequest(positions=pack_uint64([target])))
        remote.journal.rewind(target)
        remote.position = target
        remote.previous = remote.last = None

    def _generate(self, generation: "SessionGeneration", on_values: OnValues) -> Operation[None]:
        generation.begin = self.remote.position
        yield from self._emit(
            GenerateCommand(generation.payload, generation.cursor, on_values, generation.timeout_s)
        )
        generation.whole = True

    def _cut_short(self, generation: "SessionGeneration", taken: int) -> Operation[None]:
        remote = self.remote
        if generation.begin is None:
            return
        if remote.last is generation.payload:
            if generation.whole and taken == generation.cursor.given:
                return
            yield from self._rewind()
        if taken and remote.position == generation.begin:
            yield from self._emit(GenerateCommand(replace(generation.payload, steps=taken)))

    def _emit(self, command: GenerateCommand) -> Operation[None]:
        remote = self.remote
        try:
            result: GenerateResult = yield command.effect(remote.handle, remote.position)
        except Failed as failed:
            result = yield from remote.retry_until_applied(failed.status, command)
        steps = result.position - remote.position
        if steps:  # not where the first value was the last, which is not consumed
            remote.applied(steps, command.payload, result.durable_position)

    def _ask(self, name: str, request: Any) -> Operation[Any]:
        """A request about the session's handle; a session that its server lost is built again first."""
        remote = self.remote
        policy = remote.multiplexer.retry_policy()
        while True:
            try:
                request.handles = pack_uint64([remote.handle])
                reply = yield from remote.exchange(name, request)
                if not (reply.errors and remote.retryable(status_of_row(reply.errors[0]))):
                    remote.raise_row(reply.errors)
                    return reply
                yield from remote.recover()
            except Failed as failed:
                if not (yield from pause_before_retry(remote.multiplexer, policy, failed.status)):
                    raise error_of(failed.status, remote.subject) from None

    def _in_turn(self, body: Operation[T], *, first: bool = False) -> Operation[T]:
        """Does something once what was asked before is done."""
        while self._busy:
            yield AcquireTurn(self._waiting, first=first)
        if self.closed:
            raise SessionNotFound("it is closed", session_id=self.remote.id)
        self._busy = True
        try:
            if self.remote.uncertain:
                yield from self.remote.resolve_uncertainty()
            return (yield from body)
        finally:
            self.release_turn()

    def try_acquire_turn(self) -> bool:
        """Takes the turn where that is possible at once and nothing is to be found out first."""
        if self._busy or self.closed or self.remote.uncertain:
            return False
        self._busy = True
        return True

    def release_turn(self) -> None:
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

    def __init__(self, session: SessionCore, batcher: StepBatcher, payload: InputBytes) -> None:
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
        if session.try_acquire_turn():
            remote = session.remote
            self.handle = remote.handle
            self.position = remote.position
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
            self._session.release_turn()

    # As a row.

    def answered(self, outputs: Outputs, durable_position: int) -> None:
        """See `BatchRow`."""
        session = self._session
        session.remote.applied(1, self.payload, durable_position)
        session.release_turn()
        if not self.future.done():
            self.future.set_result(of_step(self._batcher.model, outputs))

    def failed(self, failed: Failed) -> None:
        """See `BatchRow`."""
        self._go_on_as(self._session.retry_step(failed, self.payload, self._batcher))

    def _go_on_as(self, operation: Operation[Value]) -> None:
        self._runner = OperationRunner(self._session.remote.multiplexer, operation, self.future, self.origin)
        self._runner.begin()
