"""Carries out plans and operations by blocking, for any number of threads at once.

One lock guards the multiplexer. Each connection has one reader thread, which also finishes abandoned
operations: those that no caller waits for.
"""

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from statewise.client.core import ClientCore
from statewise.client.requests import CLOSE_TIMEOUT_S, Call, ClientOptions, Operate, Plan, answer_wait_s
from statewise.client.sessions import GroupCore, SessionCore
from statewise.client.stream import Operation, PendingCall, StreamConnection, closed_error
from statewise.client.transport import ENDED, STREAMING, Endpoint, SyncConnection
from statewise.client.values import (
    Failed,
    SessionMoved,
    StatewiseError,
    Subject,
    Timeout,
    Unavailable,
    error_of,
)

T = TypeVar("T")


class CallScope:
    """Holds calls under way, so that another thread can cancel them."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._calls: set[Any] = set()

    def end(self) -> None:
        """Cancels the calls under way; no further call begins."""
        self.ended.set()
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    @contextmanager
    def holding(self, call: Any) -> Iterator[None]:
        """Registers a call while it is under way, and cancels it if its caller stops waiting."""
        with self._lock:
            self._calls.add(call)
        # `end` may have run between the call's beginning and its registration.
        if self.ended.is_set():
            call.cancel()
        try:
            yield
        except BaseException:
            call.cancel()
            raise
        finally:
            with self._lock:
                self._calls.discard(call)


class SyncShell:
    """A channel and the threads around it.

    Args:
        endpoint: the server's.
        options: the client's.
    """

    def __init__(self, endpoint: Endpoint, options: ClientOptions) -> None:
        self._connection = SyncConnection(endpoint, options.tracing, lambda: self.core.multiplexer.closed)
        # Re-entrant: the multiplexer calls back into this transport.
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)
        self._scope = CallScope()
        self._readers: list[threading.Thread] = []
        self._calls: dict[int, Any] = {}
        self._timers: set[threading.Timer] = set()
        self.core = ClientCore(self, options)

    # For callers.

    def run(
        self, plan: Plan[T], scope: CallScope | None = None, sent: Callable[[], object] = lambda: None
    ) -> T:
        """Carries a plan out. `scope` lets other threads end it; `sent` is called after a request is sent."""
        try:
            effect = next(plan)
            while True:
                try:
                    outcome = self._perform(effect, scope or self._scope, sent)
                except (Failed, StatewiseError) as error:
                    effect = plan.throw(error)
                else:
                    effect = plan.send(outcome)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def begin(self, plan: Plan[T], scope: CallScope, threads: Executor) -> Future[T]:
        """Carries a plan out in a thread of `threads`; returns after the plan's first request was sent.

        If the caller went on computing earlier, the thread would have to wait for the interpreter lock.
        """
        sent = threading.Event()
        future = threads.submit(self.run, plan, scope, sent.set)
        future.add_done_callback(lambda _: sent.set())
        sent.wait()
        return future

    def operate(self, operation: Operation[T] | PendingCall[T], timeout_s: float | None) -> T:
        """Carries an operation out.

        Raises:
            Timeout: the operation continues without its caller, and the next operation waits for it.
        """
        pending_call = self.submit(operation)
        future: Future[T] = pending_call.future
        try:
            return future.result(None if timeout_s is None else answer_wait_s(timeout_s))
        except StatewiseError:
            raise
        except TimeoutError:
            self.abandon(pending_call)
            raise Timeout(f"no answer within {timeout_s:g} s") from None
        except BaseException:
            self.abandon(pending_call)
            raise

    def leave(self, core: SessionCore | GroupCore, *, keep: bool) -> None:
        """Closes a session or group at the end of a `with`, unless `keep`; a failure leaves it open."""
        if not (keep or self.core.multiplexer.closed):
            with suppress(SessionMoved, Timeout, Unavailable):
                self.operate(core.close(), CLOSE_TIMEOUT_S)

    def submit(self, operation: Operation[T] | PendingCall[T]) -> PendingCall[T]:
        """Begins an operation without waiting for it."""
        with self._lock:
            return self.core.multiplexer.submit(operation)

    def abandon(self, pending_call: PendingCall[Any]) -> None:
        """Notes that the caller no longer waits for an operation."""
        with self._lock:
            self.core.multiplexer.abandon(pending_call)

    def responses(self, method: str, request: Any, timeout_s: float | None) -> Generator[Any, None, None]:
        """Yields the responses of a streaming call as they arrive; cancels it if the caller stops early.

        Raises:
            Failed: the call broke.
        """
        with self._connection.calling(method) as metadata:
            call = self._connection.call(method, request, timeout_s, metadata)
            with self._scope.holding(call):
                yield from call

    def checked_responses(self, method: str, request: Any, timeout_s: float | None) -> Iterator[Any]:
        """Yields the same responses; raises the exception meant for callers if the call breaks."""
        try:
            yield from self.responses(method, request, timeout_s)
        except Failed as failed:
            raise error_of(failed.status, Subject()) from None

    def close(self) -> None:
        """Closes anonymous sessions, the connection and the threads."""
        if self.core.multiplexer.closed:
            return
        with suppress(StatewiseError):  # sessions that stay open expire
            self.run(self.core.farewell())
        with self._lock:
            self.core.multiplexer.close()
            calls = list(self._calls.values())
            timers = list(self._timers)
        self._scope.end()
        for timer in timers:
            timer.cancel()
        for call in calls:
            call.cancel()
        for reader in self._readers:
            reader.join()
        self._connection.close()

    # For the multiplexer, which calls with the lock held.

    def connect(self, stream: StreamConnection) -> None:
        """See `Transport`."""
        self._calls[stream.number] = call = self._connection.open_stream(self._requests(stream))
        self._readers = [reader for reader in self._readers if reader.is_alive()]
        reader = threading.Thread(
            target=self._read, args=(stream, call), name="statewise-client", daemon=True
        )
        self._readers.append(reader)
        reader.start()

    def wake(self, stream: StreamConnection) -> None:
        """See `Transport`."""
        self._work.notify_all()

    def after(self, delay_s: float, callback: Callable[[], None]) -> None:
        """See `Transport`."""

        def fire() -> None:
            with self._lock:
                self._timers.discard(timer)
                if not self.core.multiplexer.closed:
                    callback()

        timer = threading.Timer(delay_s, fire)
        timer.daemon = True
        self._timers.add(timer)
        timer.start()

    def future(self) -> Any:
        """See `Transport`."""
        return Future()

    # Shared by the methods above.

    def _perform(self, effect: Any, scope: CallScope, sent: Callable[[], object]) -> Any:
        if isinstance(effect, Operate):
            return self.operate(effect.operation, effect.timeout_s)
        if not isinstance(effect, Call):
            scope.ended.wait(effect.delay_s)
            effect = None
        if self.core.multiplexer.closed or scope.ended.is_set():
            raise closed_error()
        if effect is None:
            return None
        with self._connection.calling(effect.method) as metadata:
            if effect.method in STREAMING:
                responses = self._connection.call(effect.method, effect.request, effect.timeout_s, metadata)
                sent()
                with scope.holding(responses):
                    return list(responses)
            return self._connection.call(effect.method, effect.request, effect.timeout_s, metadata)

    def _requests(self, stream: StreamConnection) -> Iterator[bytes]:
        while True:
            with self._lock:
                while (message := stream.take()) is None:
                    if stream.retired or stream.ended:
                        return
                    self._work.wait()
            yield message

    def _read(self, stream: StreamConnection, call: Any) -> None:
        status = ENDED
        try:
            status = self._connection.read_stream(call, stream, self.core.multiplexer.receive, self._lock)
        finally:
            with self._lock:
                self._calls.pop(stream.number, None)
                self.core.multiplexer.broken(stream, status)
