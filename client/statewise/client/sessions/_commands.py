"""Describes the requests that move a session, steps and generations, so that they can be sent again.

A step or a generation that is sent again from the same state gives the same result. `_session_retries`
decides about further tries, `_recovery` restores that state.
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
"""Takes values as they come, each with the number of values it stands for. Must return at once."""


class SessionCommand(Protocol):
    """A request that moves a session."""

    @property
    def payload(self) -> Payload:
        """The part of the request that the journal keeps."""
        ...

    def effect(self, handle: int, position: int) -> Effect:
        """Sends the request, for the first time or again."""
        ...

    def may_reach(self, steps: int) -> bool:
        """Whether applying the request may move a session by so many time steps."""
        ...


@dataclass(frozen=True, slots=True)
class StepCommand:
    """A step: one or more time steps of input."""

    batcher: StepBatcher
    steps: int
    payload: InputBytes

    def effect(self, handle: int, position: int) -> Effect:
        """Sends the step, for the first time or again; the outcome is a `StepResult`."""
        return StepRow(self.batcher, handle, position, self.steps, self.payload)

    def may_reach(self, steps: int) -> bool:
        """A step moves a session by its number of time steps."""
        return steps == self.steps


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """Positions of a session after a generation."""

    position: int
    durable_position: int


@dataclass(frozen=True, slots=True)
class GenerateCommand:
    """A generation: values that a session emits."""

    payload: GeneratePayload
    cursor: OutputCursor | None = None
    """None: only the state after the values is wanted."""
    on_values: OnValues | None = None
    timeout_s: float | None = None

    def effect(self, handle: int, position: int) -> Effect:
        """Sends the request, for the first time or again; the outcome is a `GenerateResult`."""
        if self.cursor is not None:
            self.cursor.restart()
        return _GenerateRequest(self, handle, position)

    def may_reach(self, steps: int) -> bool:
        """A generation may end early, and a session that has consumed nothing begins with a begin token."""
        most = self.payload.steps
        return steps > 0 and (most is None or steps <= most + 1)

    def receive(self, response: sequence_pb2.GenerateSessionsResponse) -> None:
        """Takes the values of one reply."""
        if self.cursor is not None and self.on_values is not None:
            self.on_values(self.cursor.take(response))


class _GenerateRequest:
    """A generation's request, which has several replies."""

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
        """Succeeds while unsent. Later the server is told to cancel the request; its replies still come."""
        return queue.dequeue(self)

    def encode(self, request_id: int) -> bytes:
        """Encodes the message, with its request id."""
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
        """Takes one reply; the last one has the result."""
        if response.HasField("error"):
            self.fail(Failed(status_of_rpc(response.error)))
            return True
        reply = response.generate
        if reply.errors:
            self._failed = status_of_row(reply.errors[0])
        self._command.receive(reply)
        if reply.positions:
            self._position = int(unpack_uint64(reply.positions)[-1])
        if reply.durable_positions:
            self._durable = int(unpack_uint64(reply.durable_positions)[-1])
        if reply.done:
            self._end()
        return bool(reply.done)

    def fail(self, failed: Failed) -> None:
        """Hands the failure to the operation."""
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
