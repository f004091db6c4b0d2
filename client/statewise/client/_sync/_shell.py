"""Carries out plans and operations by blocking, for any number of threads at once.

One lock guards the multiplexer. Each connection has one reader thread, which also finishes abandoned
operations: those that no caller waits for.
"""

import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from statewise.client._sync._streams import SyncStreams
from statewise.client.groups import GroupCore
from statewise.client.requests import CLOSE_TIMEOUT_S, Call, ClientOptions, Operate, Plan, answer_wait_s
from statewise.client.sessions import SessionCore
from statewise.client.stream import Operation, PendingCall, closed_error
from statewise.client.transport import STREAMING, Endpoint, open_shells
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

_END_WAIT_S = 5.0


class CallScope:
    """Holds calls under way and threads that make them, so that another thread can end them."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        # Changed and copied in one step of the interpreter each. A lock that a thread holds while the
        # interpreter ends would hold up the end of generators.
        self._calls: set[Any] = set()
        self._threads: dict[threading.Thread, threading.Event] = {}  # and whether they have begun

    def end(self) -> None:
        """Cancels the calls under way; no further call begins."""
        self.ended.set()
        for call in list(self._calls):
            call.cancel()

    def start(self, work: Callable[[], object]) -> None:
        """Does some work in a thread, for which the end of the interpreter does not wait."""
        begun = threading.Event()

        def run() -> None:
            begun.set()
            try:
                work()
            finally:
                self._threads.pop(threading.current_thread(), None)

        thread = threading.Thread(target=run, name="statewise-score", daemon=True)
        self._threads[thread] = begun
        try:
            thread.start()
        except BaseException:
            self._threads.pop(thread, None)
            raise

    def join(self) -> None:
        """Waits for the threads of a scope that has ended."""
        for thread, begun in list(self._threads.items()):
            if begun.wait(_END_WAIT_S):  # a thread that has not begun cannot be joined
                thread.join(_END_WAIT_S)

    @contextmanager
    def holding(self, call: Any) -> Iterator[None]:
        """Registers a call while it is under way, and cancels it if its caller stops waiting."""
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
            self._calls.discard(call)


class SyncShell:
    """A channel and the threads around it.

    Args:
        endpoint: the server's.
        options: the client's.
    """

    def __init__(self, endpoint: Endpoint, options: ClientOptions) -> None:
        self.target = endpoint.target
        self._streams = streams = SyncStreams(endpoint, options)
        self._connection = streams.connection
        self._scope = CallScope()
        self._scopes = {self._scope}
        self.core = streams.core
        self._finalizer = weakref.finalize(self, streams.close_aside)
        self._finalizer.atexit = False  # `open_shells` closes it then
        open_shells.add(self)

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

    @contextmanager
    def scope(self) -> Iterator[CallScope]:
        """Gives a scope that ends with the `with`, or with the client."""
        scope = CallScope()
        self._scopes.add(scope)
        try:
            yield scope
        finally:
            scope.end()
            scope.join()
            self._scopes.discard(scope)

    def begin(self, plan: Plan[T], scope: CallScope) -> Future[T]:
        """Carries a plan out in a thread of `scope`; returns after the plan's first request was sent.

        If the caller went on computing earlier, the thread would have to wait for the interpreter lock.
        """
        sent = threading.Event()
        future: Future[T] = Future()
        future.add_done_callback(lambda _: sent.set())

        def work() -> None:
            try:
                future.set_result(self.run(plan, scope, sent.set))
            except BaseException as error:
                future.set_exception(error)

        scope.start(work)
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
        with self._streams.lock:
            return self.core.multiplexer.submit(operation)

    def abandon(self, pending_call: PendingCall[Any]) -> None:
        """Notes that the caller no longer waits for an operation; a closed client has ended it.

        At the end of the interpreter this runs for generators, and a stopped thread may hold the lock.
        """
        if not self.core.multiplexer.closed:
            with self._streams.lock:
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
        if self.core.multiplexer.closed or self.core.multiplexer.closing:
            return
        self.core.multiplexer.closing = True
        try:
            with suppress(StatewiseError):  # sessions that stay open expire
                self.run(self.core.farewell())
        finally:
            with self._streams.lock:
                self.core.multiplexer.close()
            scopes = list(self._scopes)
            for scope in scopes:
                scope.end()
            self._streams.close()
            for scope in scopes:
                scope.join()
            self._finalizer.detach()

    def close_at_exit(self) -> None:
        """See `OpenShells`."""
        self.close()

    def forked(self) -> None:
        """See `OpenShells`."""
        self._streams.forked()

    # Shared by the methods above.

    def _perform(self, effect: Any, scope: CallScope, sent: Callable[[], object]) -> Any:
        if isinstance(effect, Operate):
            return self.operate(effect.operation, effect.timeout_s)
        if not isinstance(effect, Call):
            scope.ended.wait(effect.delay_s)
            effect = None
        if self.core.multiplexer.closed or scope.ended.is_set():
            raise self.core.multiplexer.closed_error() or closed_error()
        if effect is None:
            return None
        with self._connection.calling(effect.method) as metadata:
            if effect.method in STREAMING:
                responses = self._connection.call(effect.method, effect.request, effect.timeout_s, metadata)
                sent()
                with scope.holding(responses):
                    return list(responses)
            return self._connection.call(effect.method, effect.request, effect.timeout_s, metadata)
