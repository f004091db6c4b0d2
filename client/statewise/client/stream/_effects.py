"""What an operation on sessions waits for: a reply, several operations, a pause before another try."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from statewise.client.stream._messages import stream_request
from statewise.client.stream._operation_runner import Drive
from statewise.client.stream._protocols import Operation, RequestQueue, Sink
from statewise.client.values import Failed, status_of_rpc
from statewise.v1 import sequence_pb2
from statewise.wire import Chunk


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

    def begin(self, queue: RequestQueue, sink: Sink) -> None:
        """Queues the message."""
        self._sink = sink
        queue.enqueue(self)

    def withdraw(self, queue: RequestQueue, sink: Sink) -> bool:
        """Only while unsent; after that the server is asked to give it up, and its reply awaited."""
        return queue.dequeue(self)

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

    def begin(self, queue: RequestQueue, sink: Sink) -> None:
        """Begins all of them, in order."""
        self._sink = sink
        for place, operation in enumerate(self._operations):
            Drive(queue, operation, _Place(self, place), sink.origin).begin()

    def withdraw(self, queue: RequestQueue, sink: Sink) -> bool:
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

    def begin(self, queue: RequestQueue, sink: Sink) -> None:
        """Joins those waiting."""
        queue.pause(sink)

    def withdraw(self, queue: RequestQueue, sink: Sink) -> bool:
        """Never: the try before may have been applied."""
        return False


@dataclass(frozen=True, slots=True)
class Cancel:
    """Asks the server to give up a request. Nobody waits for the acknowledgement."""

    target: int
    is_frame: ClassVar[bool] = False

    def encode(self, request_id: int) -> bytes:
        cancel = sequence_pb2.CancelRequest(target_request_id=self.target)
        return stream_request(request_id, "cancel", [cancel.SerializeToString()])

    def deliver(self, response: sequence_pb2.SessionStreamResponse) -> bool:
        return True

    def fail(self, failed: Failed) -> None:
        return

    def traced(self) -> tuple[str, list[Any]]:
        return "cancel", []
