"""Offers a session's operations to its callers, one at a time and in the order of the calls.

An operation that raises was not applied, except where the exception leaves that open (a timeout, a
cancellation, a server that did not come back): then the session's next operation finds out first.
"""

from collections import deque
from typing import Any, ClassVar, TypeVar

from statewise.client.sessions._commands import OnValues, StepCommand
from statewise.client.sessions._journal import JournalProtocol
from statewise.client.sessions._origin import Origin
from statewise.client.sessions._remote_session import OpenedSession, RemoteSession
from statewise.client.sessions._rewinds import rewind_session
from statewise.client.sessions._session_generation import SessionGeneration, cut_short, generate
from statewise.client.sessions._session_requests import close_session, fork_session, take_snapshot
from statewise.client.sessions._session_retries import retry_until_applied
from statewise.client.sessions._state_changes import resolve_uncertainty
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
    check_finite,
    check_flag,
    of_sequence,
    of_step,
)

T = TypeVar("T")


class SessionCore:
    """A session and the operations on it, but for those on its state: see `states`.

    Args:
        multiplexer: the connection.
        batcher: where its steps gather; names the model version it is pinned to.
        reader: reads inputs for that version.
        journal: keeps what it consumes.
        opened: the session as the server described it.
        origin: what its inputs began from; None: this client cannot open it there.
    """

    __slots__ = ("__weakref__", "_busy", "_reader", "_waiting", "closed", "remote")

    def __init__(
        self,
        multiplexer: StreamMultiplexer,
        batcher: StepBatcher,
        reader: InputReader,
        journal: JournalProtocol,
        opened: OpenedSession,
        origin: Origin | None = None,
    ) -> None:
        self.remote = RemoteSession(multiplexer, batcher, journal, opened, origin)
        self.closed = False
        self._reader = reader
        self._busy = False
        self._waiting: deque[Waiter] = deque()

    @property
    def model(self) -> ModelInfo:
        """The version the session is pinned to."""
        return self.remote.model

    def step(self, value: object, batcher: StepBatcher | None = None) -> "Operation[Value] | OneStep":
        """Advances by one time step, or by several.

        Args:
            value: see `InputReader`.
            batcher: replaces the session's own, for another timeout.

        Raises:
            InvalidInput: at once. The operation raises any StatewiseError.
        """
        batcher = batcher or self.remote.batcher
        payload = self._reader.payload_of_step(value)
        if payload is not None:
            return OneStep(self, batcher, payload)
        rows = self._reader.read(value, Use.SESSION)
        if rows.stepwise:
            return OneStep(self, batcher, tuple(column.tobytes() for column in rows.columns))
        steps = int(rows.steps[0])
        if steps > batcher.request_limits.row_steps:
            check_finite(self.model.inputs, rows.columns)
        return self._sequence(steps, rows.columns, batcher)

    def close(self) -> Operation[None]:
        """Ends the session. Closing twice, or one that the server no longer has, is no failure."""
        while self._busy:
            yield AcquireTurn(self._waiting)
        if not self.closed:
            yield from self.in_turn(self._close(), resolve=False)

    def fork(self, session_id: str, at: str | None = None) -> Operation[tuple[OpenedSession, Origin | None]]:
        """Copies the session under a new id; `at`: from a checkpoint. Also returns its origin."""
        return self.in_turn(fork_session(self.remote, session_id, at))

    def snapshot(self, *, checkpoints: bool = False) -> Operation[bytes]:
        """Takes the state out, with the checkpoints where these are wanted."""
        check_flag("checkpoints", checkpoints)
        return self.in_turn(take_snapshot(self.remote, checkpoints=bool(checkpoints)))

    def rewind(self, to: int | None = None) -> Operation[None]:
        """Undoes the last request, or those after a position that is kept."""
        return self.in_turn(rewind_session(self.remote, to), resolve=False)

    def generate(self, generation: SessionGeneration, on_values: OnValues) -> Operation[None]:
        """Lets the session emit values, each fed back as its next input."""
        return self.in_turn(generate(self.remote, generation, on_values))

    def cut_short(self, generation: SessionGeneration, taken: int) -> Operation[None]:
        """Takes back all but the first `taken` values of a generation, right after it.

        A session that has moved on since is left alone.
        """
        return self.in_turn(cut_short(self.remote, generation, taken), first=True)

    # For `OneStep`.

    def try_acquire_turn(self) -> bool:
        """Takes the turn if the session is idle and its position on the server is known."""
        if self._busy or self.closed or self.remote.uncertain:
            return False
        self._busy = True
        return True

    def release_turn(self) -> None:
        """Gives the turn to the next operation."""
        self._busy = False
        # Several resume if the session was closed: each ends at once.
        while self._waiting and not self._busy:
            self._waiting.popleft().resume(None)

    def stepin_turn(self, payload: InputBytes, batcher: StepBatcher) -> Operation[Value]:
        """Runs a time step that has to wait for its turn, or to resolve an uncertainty first."""
        reply = yield from self.in_turn(self._advance(1, payload, batcher))
        return of_step(self.model, reply.outputs)

    def retry_step(self, failed: Failed, payload: InputBytes, batcher: StepBatcher) -> Operation[Value]:
        """Runs a time step again that has the turn and failed once."""
        try:
            reply = yield from self._retry_until_applied(failed, StepCommand(batcher, 1, payload))
            return of_step(self.model, reply.outputs)
        finally:
            self.release_turn()

    def _sequence(self, steps: int, columns: tuple[Array, ...], batcher: StepBatcher) -> Operation[Value]:
        # A sequence too long for one request goes in several, each applied whole or not at all.
        replies = []
        for begin in range(0, steps, batcher.request_limits.row_steps):
            end = min(begin + batcher.request_limits.row_steps, steps)
            payload = tuple(
                (column[begin:end] if spec.per_step else column).tobytes()
                for spec, column in zip(self.model.inputs, columns, strict=True)
            )
            reply = yield from self.in_turn(self._advance(end - begin, payload, batcher))
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
        reply: StepResult = yield from retry_until_applied(self.remote, failed.status, command)
        self.remote.applied(command.steps, command.payload, reply.durable_position)
        return reply

    def _close(self) -> Operation[None]:
        yield from close_session(self.remote)
        self.closed = True

    def in_turn(self, body: Operation[T], *, first: bool = False, resolve: bool = True) -> Operation[T]:
        """Runs an operation when all earlier ones of the session are done.

        Args:
            body: the operation.
            first: before all that wait.
            resolve: brings the server to the session's position first, if it is uncertain.
        """
        while self._busy:
            yield AcquireTurn(self._waiting, first=first)
        if self.closed:
            raise self.remote.multiplexer.closed_error() or SessionNotFound(
                "it is closed", session_id=self.remote.id
            )
        self._busy = True
        try:
            if resolve and self.remote.uncertain:
                yield from resolve_uncertainty(self.remote)
            return (yield from body)
        finally:
            self.release_turn()


class OneStep:
    """One time step of a session: the caller's pending call and a row of a step batch in one object.

    A gateway makes so many of these that generators, and the garbage collector's work for them, would be most
    of the cost of a step. Usually the row joins the batcher at once, and the reply settles its future. Only a
    step that has to wait for its turn, or that failed, goes on as an operation.

    Args:
        session: the session to advance.
        batcher: where the row gathers.
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

    # As a pending call.

    def begin(self) -> None:
        """See `PendingCall`."""
        session = self._session
        if session.try_acquire_turn():
            remote = session.remote
            self.handle = remote.handle
            self.position = remote.position
            self._batcher.add(self)
        else:
            self._continue_as(session.stepin_turn(self.payload, self._batcher))

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
        self._continue_as(self._session.retry_step(failed, self.payload, self._batcher))

    def _continue_as(self, operation: Operation[Value]) -> None:
        self._runner = OperationRunner(self._session.remote.multiplexer, operation, self.future, self.origin)
        self._runner.begin()
