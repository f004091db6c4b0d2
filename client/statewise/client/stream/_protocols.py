"""Defines what the stream's parts expect of each other: operations, effects, requests, waiters, tracing.

An operation is a generator: it yields an effect (send this request, wait for my turn, pause before another
try), is sent the outcome or has a `Failed` thrown into it, and returns its result. Nothing here knows a
transport, threads or an event loop.
"""

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol, TypeVar

from statewise.client.values import Failed
from statewise.v1 import sequence_pb2

T = TypeVar("T")
_T_co = TypeVar("_T_co", covariant=True)
_T_contra = TypeVar("_T_contra", contravariant=True)

Metadata = tuple[tuple[str, str | bytes], ...]
"""Names and values that travel with a call."""

Operation = Generator["Effect", Any, T]
"""Something done to sessions that returns a T."""


class Future(Protocol[_T_contra]):
    """What the futures of asyncio and concurrent.futures have in common."""

    def done(self) -> bool:
        """Returns whether the future is settled or cancelled."""
        ...

    def set_result(self, result: _T_contra, /) -> None:
        """Settles the future."""
        ...

    def set_exception(self, exception: Any, /) -> None:
        """Settles the future with an exception."""
        ...


class Waiter(Protocol):
    """Waits for the outcome of an effect."""

    origin: Any
    """The caller's span; None: there is none."""

    def resume(self, value: Any) -> None:
        """Takes the effect's result."""
        ...

    def throw(self, failed: Failed) -> None:
        """Takes the effect's failure."""
        ...


class Effect(Protocol):
    """Something that an operation can wait for."""

    def begin(self, queue: "RequestQueue", waiter: Waiter) -> None:
        """Starts the effect, whose outcome goes to `waiter`."""
        ...

    def withdraw(self, queue: "RequestQueue", waiter: Waiter) -> bool:
        """Takes the effect back while the server knows nothing of it. False: too late."""
        ...


class InFlightRequest(Protocol):
    """A request that was sent or is about to be."""

    is_step_batch: ClassVar[bool]
    """Whether the request counts among the step batches in flight."""

    def encode(self, request_id: int) -> bytes:
        """Encodes the message, with its request id."""
        ...

    def deliver(self, response: sequence_pb2.SessionStreamResponse) -> bool:
        """Takes a reply. False: more replies follow."""
        ...

    def fail(self, failed: Failed) -> None:
        """Notes that there will be no reply."""
        ...

    def traced(self) -> tuple[str, list[Any]]:
        """Returns the operation's name, and the callers' spans. Called only if spans are made."""
        ...


class RequestSource(Protocol):
    """Makes requests when there is room to send them: see `StepBatcher`."""

    def take(self) -> InFlightRequest | None:
        """Returns the next request. None: there is none until the source is offered again."""
        ...

    def fail(self, failed: Failed) -> None:
        """Notes that the connection ended: what waits in the source will not be sent."""
        ...


class PendingCall(Protocol[_T_co]):
    """A call that a caller started and that has no result yet."""

    future: Any
    """Takes the result."""
    origin: Any
    """The caller's span; None: there is none."""

    def begin(self) -> None:
        """Starts the call."""
        ...

    def close(self) -> None:
        """Ends a call that will not be started."""
        ...

    def withdraw(self) -> None:
        """Notes that the caller left. A request that the server may know of is still carried to its end."""
        ...


class RequestQueue(Protocol):
    """The part of the multiplexer that effects use."""

    def enqueue(self, request: InFlightRequest) -> None:
        """Sends a request as soon as possible."""
        ...

    def dequeue(self, request: InFlightRequest) -> bool:
        """Takes an unsent request back. False: the request was sent, and the server is told to cancel it."""
        ...

    def pause(self, waiter: Waiter) -> None:
        """Resumes `waiter` when the pause before the connection's next try is over."""
        ...


class Tracing(Protocol):
    """Makes the spans of one client."""

    def origin(self) -> Any:
        """Returns the caller's span, if it has one."""
        ...

    def call(self, method: str, metadata: Metadata) -> AbstractContextManager[Metadata]:
        """Makes a span of a call, open as long as the context; gives the metadata the call carries."""
        ...

    def sent(self, request_id: int, request: InFlightRequest) -> bytes:
        """Begins the span of a message; returns the bytes that are appended to the message."""
        ...

    def answered(self, response: sequence_pb2.SessionStreamResponse, *, last: bool) -> None:
        """Ends the span of a message if this is its last reply."""
        ...

    def lost(self, request_ids: Iterable[int], failed: Failed) -> None:
        """Ends the spans of messages that get no reply."""
        ...
