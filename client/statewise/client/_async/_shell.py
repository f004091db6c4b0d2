"""Carries out plans and operations by awaiting, in one event loop.

Each connection has two tasks, one that writes and one that reads; both end with it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from typing import Any, TypeVar

from statewise.client._async._deadlines import Deadlines
from statewise.client.core import ClientCore
from statewise.client.groups import GroupCore
from statewise.client.requests import CLOSE_TIMEOUT_S, Call, ClientOptions, Operate, Plan
from statewise.client.sessions import SessionCore
from statewise.client.stream import Operation, PendingCall, StreamConnection, closed_error
from statewise.client.transport import ENDED, STREAMING, AsyncConnection, Endpoint, open_shells
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


class AsyncShell:
    """A channel and the tasks around it. Arguments as for `SyncShell`; made where the loop runs."""

    def __init__(self, endpoint: Endpoint, options: ClientOptions) -> None:
        self.target = endpoint.target
        self._loop = asyncio.get_running_loop()
        self._connection = AsyncConnection(
            endpoint, options.tracing, lambda: self.core.multiplexer.closed_error()
        )
        self._work: dict[int, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._timers: set[asyncio.TimerHandle] = set()
        self._deadlines = Deadlines(self._loop, self._give_up)
        self.core = ClientCore(self, options)
        open_shells.add(self)

    # For callers.

    async def run(self, plan: Plan[T]) -> T:
        """Carries a plan out."""
        try:
            effect = next(plan)
            while True:
                try:
                    outcome = await self._perform(effect)
                except (Failed, StatewiseError) as error:
                    effect = plan.throw(error)
                else:
                    effect = plan.send(outcome)
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def operate(self, operation: Operation[T] | PendingCall[T], timeout_s: float | None) -> T:
        """Carries an operation out.

        Raises:
            Timeout: the operation continues without its caller, and the next operation waits for it.
        """
        pending_call = self.core.multiplexer.submit(operation)
        future: asyncio.Future[T] = pending_call.future
        if timeout_s is not None:
            self._deadlines.add(pending_call, timeout_s)
        try:
            return await future
        except asyncio.CancelledError:
            self.core.multiplexer.abandon(pending_call)
            raise
        finally:
            if timeout_s is not None:
                self._deadlines.discard(pending_call, timeout_s)

    async def leave(self, core: SessionCore | GroupCore, *, keep: bool) -> None:
        """Closes a session or group at the end of a `with`, unless it is kept; on failure it stays open."""
        if not (keep or self.core.multiplexer.closed):
            with suppress(SessionMoved, Timeout, Unavailable):
                await self.operate(core.close(), CLOSE_TIMEOUT_S)

    async def responses(
        self, method: str, request: Any, timeout_s: float | None
    ) -> AsyncGenerator[Any, None]:
        """Yields the responses of a streaming call as they arrive; cancels it if the caller stops early.

        Raises:
            Failed: the call broke.
        """
        with self._connection.calling(method) as metadata:
            call = self._connection.call(method, request, timeout_s, metadata)
            try:
                async for response in call:
                    yield response
            finally:
                call.cancel()

    async def checked_responses(
        self, method: str, request: Any, timeout_s: float | None
    ) -> AsyncIterator[Any]:
        """Yields the same responses; raises the exception meant for callers if the call breaks."""
        try:
            async for response in self.responses(method, request, timeout_s):
                yield response
        except Failed as failed:
            raise error_of(failed.status, Subject()) from None

    async def close(self) -> None:
        """Closes anonymous sessions, the connection and the tasks."""
        if self.core.multiplexer.closed or self.core.multiplexer.closing:
            return
        self.core.multiplexer.closing = True
        try:
            with suppress(StatewiseError):  # sessions that stay open expire
                await self.run(self.core.farewell())
        finally:  # also if this task is cancelled while sessions are closed
            self.core.multiplexer.close()
            self._ended.set()
            for timer in self._timers:
                timer.cancel()
            self._deadlines.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._connection.close()

    def close_at_exit(self) -> None:
        """See `open_shells`: a loop that another thread runs closes the client; others await nothing more."""
        if not self._loop.is_running():
            self.core.multiplexer.close()
            return
        closing = asyncio.run_coroutine_threadsafe(self.close(), self._loop)
        with suppress(TimeoutError):
            closing.result(_END_WAIT_S)

    def forked(self) -> None:
        """See `open_shells`."""
        self.core.multiplexer.forked()

    # For the multiplexer.

    def connect(self, stream: StreamConnection) -> None:
        """See `Transport`."""
        self._work[stream.number] = asyncio.Event()
        task = self._loop.create_task(self._serve(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def wake(self, stream: StreamConnection) -> None:
        """See `Transport`."""
        work = self._work.get(stream.number)
        if work is not None:
            work.set()

    def after(self, delay_s: float, callback: Callable[[], None]) -> None:
        """See `Transport`."""

        def fire() -> None:
            self._timers.discard(timer)
            callback()

        timer = self._loop.call_later(delay_s, fire)
        self._timers.add(timer)

    def future(self) -> Any:
        """See `Transport`."""
        return self._loop.create_future()

    # Shared by the methods above.

    def _give_up(self, pending_call: PendingCall[Any], timeout_s: float) -> None:
        if not pending_call.future.done():
            pending_call.future.set_exception(Timeout(f"no answer within {timeout_s:g} s"))
            self.core.multiplexer.abandon(pending_call)

    async def _perform(self, effect: Any) -> Any:
        if isinstance(effect, Operate):
            return await self.operate(effect.operation, effect.timeout_s)
        if not isinstance(effect, Call):
            with suppress(TimeoutError):  # the pause is over
                await asyncio.wait_for(self._ended.wait(), effect.delay_s)
        if self.core.multiplexer.closed:
            raise self.core.multiplexer.closed_error() or closed_error()
        if not isinstance(effect, Call):
            return None
        with self._connection.calling(effect.method) as metadata:
            if effect.method in STREAMING:
                call = self._connection.call(effect.method, effect.request, effect.timeout_s, metadata)
                return [response async for response in call]
            return await self._connection.call(effect.method, effect.request, effect.timeout_s, metadata)

    async def _serve(self, stream: StreamConnection) -> None:
        status = ENDED
        try:
            work = self._work[stream.number]
            status = await self._connection.run_stream(stream, self.core.multiplexer.receive, work)
        finally:
            self._work.pop(stream.number).set()
            self.core.multiplexer.broken(stream, status)
