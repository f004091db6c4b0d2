"""Sends a client's requests about sessions over one stream, hands out the replies, and connects again.

The multiplexer drives operations. A shell lends it a `Transport` and calls `receive`, `broken` and
`StreamConnection.take`; a shell with threads holds one lock around every call. Nothing here knows gRPC,
threads or an event loop.

Invariant: every future handed out resolves when its operation ends or the client is closed, unless the caller
abandoned it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from types import GeneratorType
from typing import Any, TypeVar, cast

from statewise.client.retries import STREAM_RULES, Backoff, RetryPolicy
from statewise.client.stream._closed import CLOSED, FORKED, closed_error
from statewise.client.stream._effects import Cancel
from statewise.client.stream._operation_runner import OperationRunner
from statewise.client.stream._protocols import (
    InFlightRequest,
    Operation,
    PendingCall,
    RequestSource,
    Tracing,
    Waiter,
)
from statewise.client.stream._stream_connection import StreamConnection, Transport
from statewise.client.values import Failed, StatewiseError, Status
from statewise.v1 import sequence_pb2

T = TypeVar("T")

# More step batches in flight add no throughput; steps that wait leave in fuller batches instead. The number
# is large enough that a few slow ones do not hold up the rest, and below what servers answer at once on a
# stream.
_STEP_BATCHES_IN_FLIGHT = 16


class StreamMultiplexer:
    """The one session stream of a client, through all its connections.

    Args:
        transport: the shell.
        clock: monotonic seconds.
        backoff: gives the pauses between tries.
        retry_for_s: how long an operation tries to reach a server before it gives up.
        tracing: makes spans of messages; None: there are none.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        clock: Callable[[], float],
        backoff: Backoff,
        retry_for_s: float,
        tracing: Tracing | None = None,
    ) -> None:
        self._transport = transport
        self._tracing = tracing
        self._backoff = backoff
        self._exchanges: deque[InFlightRequest] = deque()
        self._sources: deque[RequestSource] = deque()
        self._paused: list[Waiter] = []
        self._streams: dict[int, StreamConnection] = {}
        self._current: StreamConnection | None = None
        self._request_id = 0
        self._attempt = 0
        self._timer_runs = False
        self._woken = False
        self._clock = clock
        self.closed = False
        self.closing = False
        """The client is being closed: what finds its session closed fails for that reason."""
        self._closed_status = CLOSED
        self.retry_for_s = retry_for_s
        self._connections = 0
        self.answering = 0
        """Number of the connection over which the reply came that is being handed out."""

    @property
    def connected(self) -> bool:
        """Whether a stream is open, as far as this side knows."""
        return self._current is not None

    def retry_policy(self) -> RetryPolicy:
        """Returns a new policy, for the tries of one request."""
        return RetryPolicy(STREAM_RULES, self._clock, self._backoff, self.retry_for_s)

    def submit(self, operation: Operation[T] | PendingCall[T]) -> PendingCall[T]:
        """Starts an operation for a caller."""
        future = self._transport.future()
        if isinstance(operation, GeneratorType):
            pending_call: PendingCall[T] = OperationRunner(self, operation, future)
        else:
            pending_call = cast(PendingCall[T], operation)
            pending_call.future = future
        if self._tracing is not None:
            pending_call.origin = self._tracing.origin()
        if self.closed:
            pending_call.close()
            future.set_exception(closed_error(self._closed_status))
        else:
            pending_call.begin()
        return pending_call

    def abandon(self, pending_call: PendingCall[Any]) -> None:
        """Drops the unsent requests of a call whose caller left; cancels those in flight where possible."""
        pending_call.withdraw()

    def closed_error(self) -> StatewiseError | None:
        """Returns the exception that methods of the closed client raise; None: the client is open."""
        return closed_error(self._closed_status) if self.closed or self.closing else None

    def forked(self) -> None:
        """Makes further operations fail: this process is a child, its parent keeps the connections."""
        self.closed = True
        self._closed_status = FORKED

    # For effects and step batchers.

    def enqueue(self, request: InFlightRequest) -> None:
        """Sends a request as soon as possible."""
        if self.closed:
            request.fail(Failed(CLOSED))
            return
        self._exchanges.append(request)
        self._wake_writer()

    def dequeue(self, request: InFlightRequest) -> bool:
        """Takes an unsent request back. False: the request was sent, and the server is told to cancel it."""
        if request in self._exchanges:
            self._exchanges.remove(request)
            return True
        self.cancel(lambda in_flight: in_flight is request)
        return False

    def cancel(self, matches: Callable[[InFlightRequest], bool]) -> None:
        """Tells the server to cancel requests in flight; their replies still come."""
        in_flight = self._current.in_flight if self._current else {}
        for request_id in [number for number, request in in_flight.items() if matches(request)]:
            self.enqueue(Cancel(request_id))

    def offer(self, source: RequestSource) -> None:
        """Takes requests from `source` as there is room for them, until it has none."""
        if self.closed:
            source.fail(Failed(CLOSED))
            return
        self._sources.append(source)
        self._wake_writer()

    def pause(self, waiter: Waiter) -> None:
        """Resumes `waiter` when the pause before the connection's next try is over."""
        if self.closed:
            waiter.throw(Failed(CLOSED))
            return
        self._paused.append(waiter)
        if not self._timer_runs:
            self._timer_runs = True
            self._transport.after(self._backoff.delay_s(self._attempt), self._resume_paused)
            self._attempt += 1

    # For shells.

    def take(self, stream: StreamConnection) -> bytes | None:
        """Returns the next message of a stream, or None."""
        if stream is not self._current:
            return None
        while (request := self._next(stream)) is not None:
            self._request_id += 1
            try:
                message = request.encode(self._request_id)
            except (ValueError, TypeError) as error:
                request.fail(Failed(Status("INVALID_ARGUMENT", message=f"no valid message: {error}")))
                continue
            stream.step_batches += request.is_step_batch
            stream.in_flight[self._request_id] = request
            if self._tracing is not None:
                message += self._tracing.sent(self._request_id, request)
            return message
        self._woken = False
        return None

    def receive(self, stream: StreamConnection, response: sequence_pb2.SessionStreamResponse) -> None:
        """Hands a reply to the request it answers."""
        self.answering = stream.number
        if not response.HasField("error"):  # after an error, the next pause is longer
            self._attempt = 0
        if response.request_id == 0:
            if response.HasField("draining"):
                self._retire(stream)
            return
        request = stream.in_flight.pop(response.request_id, None)
        if request is None:
            return
        if request.is_step_batch:
            stream.step_batches -= 1
        try:
            answered = request.deliver(response)
        except (ValueError, KeyError, IndexError) as error:
            message = f"a reply that makes no sense: {error}"
            request.fail(Failed(Status("INTERNAL", message=message, maybe_applied=True)))
            answered = True
        if not answered:
            stream.in_flight[response.request_id] = request
        if self._tracing is not None:
            self._tracing.answered(response, last=answered)
        self._wake_writer()

    def broken(self, stream: StreamConnection, status: Status) -> None:
        """Fails the unanswered requests of an ended connection: as lost and, if sent, as maybe applied."""
        if stream.ended:
            return
        stream.ended = True
        self._streams.pop(stream.number, None)
        self._transport.wake(stream)
        unsent: list[InFlightRequest | RequestSource] = []
        if stream is self._current:
            self._current = None
            self._woken = False
            unsent = self._withdraw_unsent()
        unanswered = list(stream.in_flight.values())
        if self._tracing is not None:
            self._tracing.lost(stream.in_flight, Failed(status))
        stream.in_flight.clear()
        for request in unanswered:
            request.fail(Failed(replace(status, lost=True, maybe_applied=True)))
        for item in unsent:
            item.fail(Failed(replace(status, lost=True)))

    def close(self) -> None:
        """Ends everything; operations that still wait fail with Unavailable."""
        if self.closed:
            return
        self.closed = True
        streams = list(self._streams.values())
        for stream in streams:
            self.broken(stream, CLOSED)
        for item in self._withdraw_unsent():
            item.fail(Failed(CLOSED))
        paused, self._paused = self._paused, []
        for waiter in paused:
            waiter.throw(Failed(CLOSED))

    # Shared by the methods above.

    def _wake_writer(self) -> None:
        """Makes the shell write on if a request waits, or open a stream where there is none."""
        if not (self._exchanges or self._sources):
            return
        if self._current is None:
            if self._timer_runs:
                return
            self._connections += 1
            stream = StreamConnection(self._connections, self.take)
            self._current = self._streams[stream.number] = stream
            self._woken = True
            self._transport.connect(stream)
        elif not self._woken:
            self._woken = True
            self._transport.wake(self._current)

    def _next(self, stream: StreamConnection) -> InFlightRequest | None:
        if self._exchanges:
            return self._exchanges.popleft()
        while self._sources and stream.step_batches < _STEP_BATCHES_IN_FLIGHT:
            source = self._sources[0]
            request = source.take()
            if request is not None:
                self._sources.rotate(-1)
                return request
            self._sources.popleft()
        return None

    def _withdraw_unsent(self) -> list[InFlightRequest | RequestSource]:
        unsent: list[InFlightRequest | RequestSource] = [*self._exchanges, *self._sources]
        self._exchanges.clear()
        self._sources.clear()
        return unsent

    def _retire(self, stream: StreamConnection) -> None:
        stream.retired = True
        if stream is self._current:
            self._current = None
            self._woken = False
            self._transport.wake(stream)
            self._wake_writer()

    def _resume_paused(self) -> None:
        self._timer_runs = False
        paused, self._paused = self._paused, []
        for waiter in paused:
            waiter.resume(None)
        self._wake_writer()
