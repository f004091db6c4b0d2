"""Names what the stream's parts expect of each other: operations, effects, requests, waiters, tracing.

An operation is a generator: it yields an effect (send this, wait for my turn, wait before another try), is
sent the outcome or has a `Failed` thrown into it, and returns its result. Nothing here knows a transport,
threads or an event loop.
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
"""Of a call: names and values."""

Operation = Generator["Effect", Any, T]
"""Something done to sessions, in the making."""


class Future(Protocol[_T_contra]):
    """What asyncio's and concurrent.futures' futures have in common."""

    def done(self) -> bool:
        """Whether it is settled or cancelled."""
        ...

    def set_result(self, result: _T_contra, /) -> None:
        """Settles it."""
        ...

    def set_exception(self, exception: Any, /) -> None:
        """Settles it with an exception."""
        ...


class Waiter(Protocol):
    """Who waits for the outcome of an effect."""

    origin: Any
    """The span of who asked; None: there is none."""

    def resume(self, value: Any) -> None:
        """It succeeded."""
        ...

    def throw(self, failed: Failed) -> None:
        """It failed."""
        ...


class Effect(Protocol):
    """What an operation waits for."""

    def begin(self, queue: "RequestQueue", waiter: Waiter) -> None:
        """Starts it; the outcome goes to `waiter`."""
        ...

    def withdraw(self, queue: "RequestQueue", waiter: Waiter) -> bool:
        """Takes it back while the server knows nothing of it. False where that is too late."""
        ...


class InFlightRequest(Protocol):
    """A request on its way."""

    is_step_batch: ClassVar[bool]
    """Made by a source, and so counted among the frames in flight."""

    def encode(self, request_id: int) -> bytes:
        """The message."""
        ...

    def deliver(self, response: sequence_pb2.SessionStreamResponse) -> bool:
        """Takes a reply. False: more replies follow."""
        ...

    def fail(self, failed: Failed) -> None:
        """There will be no reply."""
        ...

    def traced(self) -> tuple[str, list[Any]]:
        """The operation's name, and the origins of those who wait for it. Asked only where spans are made."""
        ...


class RequestSource(Protocol):
    """Something that makes requests when there is room to send them: see `StepBatcher`."""

    def take(self) -> InFlightRequest | None:
        """The next request, or None."""
        ...

    def fail(self, failed: Failed) -> None:
        """The connection went: nothing waiting here will be sent."""
        ...


class PendingCall(Protocol[_T_co]):
    """Something that a caller asked for, between the asking and the result."""

    future: Any
    """Of the result."""
    origin: Any
    """The span of who asked; None: there is none."""

    def begin(self) -> None:
        """Starts it."""
        ...

    def close(self) -> None:
        """It will not be started."""
        ...

    def withdraw(self) -> None:
        """Nobody waits for the result any more. What the server may know of is still seen to its end."""
        ...


class RequestQueue(Protocol):
    """What effects ask of the multiplexer."""

    def enqueue(self, request: InFlightRequest) -> None:
        """Sends a request as soon as possible."""
        ...

    def dequeue(self, request: InFlightRequest) -> bool:
        """Takes a request back. Where it was sent already the server is told, and the answer is False."""
        ...

    def pause(self, waiter: Waiter) -> None:
        """Resumes `waiter` after the current wait."""
        ...


class Tracing(Protocol):
    """Makes the spans of one client."""

    def origin(self) -> Any:
        """The caller's span, if it has one."""
        ...

    def call(self, method: str, metadata: Metadata) -> AbstractContextManager[Metadata]:
        """A call of its own, as long as the context is open; gives the metadata it carries."""
        ...

    def sent(self, request_id: int, request: InFlightRequest) -> bytes:
        """Begins the span of a message; gives what is appended to it, encoded."""
        ...

    def answered(self, response: sequence_pb2.SessionStreamResponse, *, last: bool) -> None:
        """Ends the span of a message where this is its last reply."""
        ...

    def lost(self, request_ids: Iterable[int], failed: Failed) -> None:
        """Ends the spans of messages that get no reply."""
        ...
