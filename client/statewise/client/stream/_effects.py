"""Defines what an operation on sessions can wait for: a reply, other operations, its turn, a pause."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from statewise.client.stream._messages import stream_request
from statewise.client.stream._operation_runner import OperationRunner
from statewise.client.stream._protocols import Operation, RequestQueue, Waiter
from statewise.client.values import Failed, status_of_rpc
from statewise.v1 import sequence_pb2
from statewise.wire import Chunk


class Exchange:
    """One request and its reply.

    Args:
        field: name of the operation, and of its field in the message.
        content: the request, encoded.
    """

    __slots__ = ("_content", "_field", "_waiter")
    is_step_batch: ClassVar[bool] = False

    def __init__(self, field: str, content: Sequence[Chunk]) -> None:
        self._field = field
        self._content = content
        self._waiter: Waiter | None = None

    def begin(self, queue: RequestQueue, waiter: Waiter) -> None:
        """Queues the request."""
        self._waiter = waiter
        queue.enqueue(self)

    def withdraw(self, queue: RequestQueue, waiter: Waiter) -> bool:
        """Succeeds while unsent. Later the server is told to cancel the request; its reply still comes."""
        return queue.dequeue(self)

    def encode(self, request_id: int) -> bytes:
        """Encodes the message, with its request id."""
        return stream_request(request_id, self._field, self._content)

    def deliver(self, response: sequence_pb2.SessionStreamResponse) -> bool:
        """Hands the reply to the operation."""
        assert self._waiter is not None
        if response.HasField("error"):
            self._waiter.throw(Failed(status_of_rpc(response.error)))
        else:
            self._waiter.resume(getattr(response, self._field))
        return True

    def fail(self, failed: Failed) -> None:
        """Hands the failure to the operation."""
        assert self._waiter is not None
        self._waiter.throw(failed)

    def traced(self) -> tuple[str, list[Any]]:
        """See `InFlightRequest`."""
        assert self._waiter is not None
        return self._field, [self._waiter.origin]


class Gather:
    """Several operations at once. The outcome is a list: the result of each, or the exception it raised."""

    __slots__ = ("_left", "_operations", "_outcomes", "_waiter")

    def __init__(self, operations: Sequence[Operation[Any]]) -> None:
        self._operations = operations
        self._outcomes: list[Any] = [None] * len(operations)
        self._left = len(operations)
        self._waiter: Waiter | None = None

    def begin(self, queue: RequestQueue, waiter: Waiter) -> None:
        """Begins all operations, in order."""
        self._waiter = waiter
        for index, operation in enumerate(self._operations):
            OperationRunner(queue, operation, _GatherFuture(self, index), waiter.origin).begin()

    def withdraw(self, queue: RequestQueue, waiter: Waiter) -> bool:
        """Never succeeds: some requests may have been sent."""
        return False

    def collect(self, index: int, outcome: Any) -> None:
        """Takes the outcome of one operation."""
        self._outcomes[index] = outcome
        self._left -= 1
        if self._left == 0 and self._waiter is not None:
            self._waiter.resume(self._outcomes)


@dataclass(frozen=True, slots=True)
class _GatherFuture:
    """The future of one of several operations."""

    gather: Gather
    index: int

    def done(self) -> bool:
        return False

    def set_result(self, result: Any, /) -> None:
        self.gather.collect(self.index, result)

    def set_exception(self, exception: Any, /) -> None:
        self.gather.collect(self.index, exception)


class Pause:
    """A pause before another try. All operations share it, because one connection serves them all."""

    __slots__ = ()

    def begin(self, queue: RequestQueue, waiter: Waiter) -> None:
        """Joins the others that wait."""
        queue.pause(waiter)

    def withdraw(self, queue: RequestQueue, waiter: Waiter) -> bool:
        """Never succeeds: the previous try may have been applied."""
        return False


class AcquireTurn:
    """Waits until all earlier operations of a session are done.

    Args:
        waiting: the session's queue.
        first: goes to the front, because this operation completes the one that runs now.
    """

    __slots__ = ("_first", "_waiting")

    def __init__(self, waiting: deque[Waiter], *, first: bool = False) -> None:
        self._waiting = waiting
        self._first = first

    def begin(self, queue: RequestQueue, waiter: Waiter) -> None:
        """Queues this effect."""
        if self._first:
            self._waiting.appendleft(waiter)
        else:
            self._waiting.append(waiter)

    def withdraw(self, queue: RequestQueue, waiter: Waiter) -> bool:
        """Always succeeds: nothing was sent."""
        self._waiting.remove(waiter)
        return True


@dataclass(frozen=True, slots=True)
class Cancel:
    """Tells the server to cancel a request. Nothing waits for the acknowledgement."""

    target: int
    is_step_batch: ClassVar[bool] = False

    def encode(self, request_id: int) -> bytes:
        cancel = sequence_pb2.CancelRequest(target_request_id=self.target)
        return stream_request(request_id, "cancel", [cancel.SerializeToString()])

    def deliver(self, response: sequence_pb2.SessionStreamResponse) -> bool:
        return True

    def fail(self, failed: Failed) -> None:
        return

    def traced(self) -> tuple[str, list[Any]]:
        return "cancel", []
