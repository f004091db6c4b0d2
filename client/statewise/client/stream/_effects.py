"""What an operation on sessions waits for, and what carries it from one effect to the next.

An operation is a generator: it yields an effect (send this, wait for my turn, wait before another try), is
sent the outcome or has a `Failed` thrown into it, and returns its result. Nothing here knows a transport,
threads or an event loop.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from statewise.client.values._errors import InternalError, StatewiseError
from statewise.client.values._status import Failed, Subject, error_of, status_of_rpc
from statewise.v1 import sequence_pb2
from statewise.wire import Chunk, nested

if TYPE_CHECKING:
    from statewise.client.stream._multiplexer import Hub

T = TypeVar("T")
_T_co = TypeVar("_T_co", covariant=True)
_T_contra = TypeVar("_T_contra", contravariant=True)

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


class Sink(Protocol):
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

    def begin(self, hub: "Hub", sink: Sink) -> None:
        """Starts it; the outcome goes to `sink`."""
        ...

    def withdraw(self, hub: "Hub", sink: Sink) -> bool:
        """Takes it back while the server knows nothing of it. False where that is too late."""
        ...


class Pending(Protocol):
    """A request on its way."""

    is_frame: ClassVar[bool]
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


class Source(Protocol):
    """Something that makes requests when there is room to send them: see `_lanes`."""

    def take(self) -> Pending | None:
        """The next request, or None."""
        ...

    def fail(self, failed: Failed) -> None:
        """The connection went: nothing waiting here will be sent."""
        ...


class UnderWay(Protocol[_T_co]):
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


class Drive(Generic[T]):
    """An operation under way.

    Args:
        hub: the connection.
        operation: what is done.
        future: of its result.
        origin: the span of who asked; None: there is none.
    """

    __slots__ = ("_hub", "_operation", "effect", "future", "origin")

    def __init__(self, hub: "Hub", operation: Operation[T], future: Any, origin: Any = None) -> None:
        self._hub = hub
        self._operation = operation
        self.effect: Effect | None = None
        self.future = future
        self.origin = origin

    def begin(self) -> None:
        """See `UnderWay`."""
        self._advance(self._operation.send, None)

    def close(self) -> None:
        """See `UnderWay`."""
        self._operation.close()

    def resume(self, value: Any) -> None:
        """The effect waited for succeeded."""
        self._advance(self._operation.send, value)

    def throw(self, failed: Failed) -> None:
        """The effect waited for failed."""
        self._advance(self._operation.throw, failed)

    def withdraw(self) -> None:
        """See `UnderWay`."""
        if self.effect is not None and self.effect.withdraw(self._hub, self):
            self.effect = None
            self._operation.close()

    def _advance(self, move: Callable[[Any], Effect], value: Any) -> None:
        self.effect = None
        try:
            effect = move(value)
        except StopIteration as stop:
            if not self.future.done():
                self.future.set_result(stop.value)
        except Exception as error:
            self._settle(error)
        else:
            self.effect = effect
            effect.begin(self._hub, self)

    def _settle(self, error: Exception) -> None:
        if self.future.done():
            return
        if isinstance(error, Failed):
            error = error_of(error.status, Subject())
        elif not isinstance(error, StatewiseError):
            wrapped = InternalError(f"{type(error).__name__}: {error}")
            wrapped.__cause__ = error
            error = wrapped
        self.future.set_exception(error)


class Exchange:
    """One message and its reply.

    Args:
        field: the operation's name.
        content: its message, encoded.
    """

    __slots__ = ("_content", "_field", "_sink")
    is_frame: ClassVar[bool] = False

    def __init__(self, field: str, content: Sequence[Chunk]) -> None:
        self._field = field
        self._content = content
        self._sink: Sink | None = None

    def begin(self, hub: "Hub", sink: Sink) -> None:
        """Queues the message."""
        self._sink = sink
        hub.enqueue(self)

    def withdraw(self, hub: "Hub", sink: Sink) -> bool:
        """Only while unsent; after that the server is asked to give it up, and its reply awaited."""
        return hub.dequeue(self)

    def encode(self, request_id: int) -> bytes:
        """The message, numbered."""
        return stream_request(request_id, self._field, self._content)

    def deliver(self, response: sequence_pb2.SessionStreamResponse) -> bool:
        """Hands the reply on."""
        assert self._sink is not None
        if response.HasField("error"):
            self._sink.throw(Failed(status_of_rpc(response.error)))
        else:
            self._sink.resume(getattr(response, self._field))
        return True

    def fail(self, failed: Failed) -> None:
        """Hands the failure on."""
        assert self._sink is not None
        self._sink.throw(failed)

    def traced(self) -> tuple[str, list[Any]]:
        """See `Pending`."""
        assert self._sink is not None
        return self._field, [self._sink.origin]


class Together:
    """Several operations at once; the outcome is the list of their results, or of the exceptions they ended
    with.
    """

    __slots__ = ("_left", "_operations", "_outcomes", "_sink")

    def __init__(self, operations: Sequence[Operation[Any]]) -> None:
        self._operations = operations
        self._outcomes: list[Any] = [None] * len(operations)
        self._left = len(operations)
        self._sink: Sink | None = None

    def begin(self, hub: "Hub", sink: Sink) -> None:
        """Begins all of them, in order."""
        self._sink = sink
        for place, operation in enumerate(self._operations):
            Drive(hub, operation, _Place(self, place), sink.origin).begin()

    def withdraw(self, hub: "Hub", sink: Sink) -> bool:
        """Never: some may have gone."""
        return False

    def settle(self, place: int, outcome: Any) -> None:
        """One of them is done."""
        self._outcomes[place] = outcome
        self._left -= 1
        if self._left == 0 and self._sink is not None:
            self._sink.resume(self._outcomes)


@dataclass(frozen=True, slots=True)
class _Place:
    """The future of one of several operations."""

    together: Together
    place: int

    def done(self) -> bool:
        return False

    def set_result(self, result: Any, /) -> None:
        self.together.settle(self.place, result)

    def set_exception(self, exception: Any, /) -> None:
        self.together.settle(self.place, exception)


class Pause:
    """A wait before another try. All operations that wait do so together, for one connection serves all."""

    __slots__ = ()

    def begin(self, hub: "Hub", sink: Sink) -> None:
        """Joins those waiting."""
        hub.pause(sink)

    def withdraw(self, hub: "Hub", sink: Sink) -> bool:
        """Never: the try before may have been applied."""
        return False


def stream_request(request_id: int, field: str, content: Sequence[Chunk]) -> bytes:
    """A message of the session stream around an operation that is encoded already."""
    head = sequence_pb2.SessionStreamRequest(request_id=request_id).SerializeToString()
    number = sequence_pb2.SessionStreamRequest.DESCRIPTOR.fields_by_name[field].number
    return b"".join([head, *nested(number, content)])
