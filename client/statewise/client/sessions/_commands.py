"""What moves a session on, a step or a generation, in a form that can be asked for again.

Asked again from the state it began with, either gives the same. Which state that is, and whether asking again
can help, is for `RemoteSession` to know.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from statewise.client.requests import OutputCursor
from statewise.client.sessions._journal import GeneratePayload, Payload
from statewise.client.stream import (
    Effect,
    RequestQueue,
    StepBatcher,
    StepRow,
    Waiter,
    set_timeout,
    stream_request,
)
from statewise.client.values import Failed, InputBytes, Status, Value, status_of_row, status_of_rpc
from statewise.v1 import sequence_pb2
from statewise.wire import pack_uint32, pack_uint64, unpack_uint64

OnValues = Callable[[list[tuple[Value, int]]], None]
"""Takes values as they come, each with how many it stands for. Must return at once."""


class SessionCommand(Protocol):
    """A request that moves a session on."""

    @property
    def payload(self) -> Payload:
        """What the journal keeps of it."""
        ...

    def effect(self, handle: int, position: int) -> Effect:
        """Asks for it, once more or for the first time."""
        ...

    def may_reach(self, steps: int) -> bool:
        """Whether a session that applied it may have moved on by so many time steps."""
        ...


@dataclass(frozen=True, slots=True)
class StepCommand:
    """Time steps of input."""

    batcher: StepBatcher
    steps: int
    payload: InputBytes

    def effect(self, handle: int, position: int) -> Effect:
        """The outcome is a `StepResult`."""
        return StepRow(self.batcher, handle, position, self.steps, self.payload)

    def may_reach(self, steps: int) -> bool:
        """A step moves by what it holds."""
        return steps == self.steps


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """Where a session stands after it generated."""

    position: int
    durable_position: int


@dataclass(frozen=True, slots=True)
class GenerateCommand:
    """Values that a session emits."""

    payload: GeneratePayload
    cursor: OutputCursor | None = None
    """None: the values are not wanted, only the state that they leave."""
    on_values: OnValues | None = None
    timeout_s: float | None = None

    def effect(self, handle: int, position: int) -> Effect:
        """The outcome is a `GenerateResult`."""
        if self.cursor is not None:
            self.cursor.restart()
        return _GenerateRequest(self, handle, position)

    def may_reach(self, steps: int) -> bool:
        """A generation may end early, and a session that has consumed nothing begins with a begin token."""
        most = self.payload.steps
        return steps > 0 and (most is None or steps <= most + 1)

    def receive(self, piece: sequence_pb2.GenerateSessionsResponse) -> None:
        """Some values came."""
        if self.cursor is not None and self.on_values is not None:
            self.on_values(self.cursor.take(piece))


class _GenerateRequest:
    """The request of a generation, and its replies."""

    __slots__ = ("_command", "_durable", "_failed", "_handle", "_position", "_start", "_waiter")
    is_step_batch: ClassVar[bool] = False

    def __init__(self, command: GenerateCommand, handle: int, position: int) -> None:
        self._command = command
        self._handle = handle
        self._start = self._position = position
        self._durable = 0
        self._failed: Status | None = None
        self._waiter: Waiter | None = None

    def begin(self, queue: RequestQueue, waiter: Waiter) -> None:
        """Queues the request."""
        self._waiter = waiter
        queue.enqueue(self)

    def withdraw(self, queue: RequestQueue, waiter: Waiter) -> bool:
        """Only while unsent; after that the server is asked to give it up, and its reply awaited."""
        return queue.dequeue(self)

    def encode(self, request_id: int) -> bytes:
        """The message, numbered."""
        payload = self._command.payload
        request = sequence_pb2.GenerateSessionsRequest(
            handles=pack_uint64([self._handle]),
            positions=pack_uint64([self._start]),
            steps=b"" if payload.steps is None else pack_uint32([payload.steps]),
            sampling=sequence_pb2.Sampling.FromString(payload.sampling),
        )
        set_timeout(request, self._command.timeout_s)
        return stream_request(request_id, "generate", [request.SerializeToString()])

    def deliver(self, response: sequence_pb2.SessionStreamResponse) -> bool:
        """Takes a piece; the last one ends it."""
        if response.HasField("error"):
            self.fail(Failed(status_of_rpc(response.error)))
            return True
        piece = response.generate
        if piece.errors:
            self._failed = status_of_row(piece.errors[0])
        self._command.receive(piece)
        if piece.positions:
            self._position = int(unpack_uint64(piece.positions)[-1])
        if piece.durable_positions:
            self._durable = int(unpack_uint64(piece.durable_positions)[-1])
        if piece.done:
            self._end()
        return bool(piece.done)

    def fail(self, failed: Failed) -> None:
        """Hands the failure on."""
        assert self._waiter is not None
        self._waiter.throw(failed)

    def traced(self) -> tuple[str, list[Any]]:
        """See `InFlightRequest`."""
        assert self._waiter is not None
        return "generate", [self._waiter.origin]

    def _end(self) -> None:
        assert self._waiter is not None
        if self._failed is not None:
            self._waiter.throw(Failed(self._failed))
        else:
            self._waiter.resume(GenerateResult(self._position, self._durable))
