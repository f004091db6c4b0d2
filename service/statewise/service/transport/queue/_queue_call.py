"""Serves one call on a completion queue: each operation of the call ends as an event, in the loop's thread.

A call is over when its task has ended and gRPC has said so. The event of its end always comes, after the
status was sent, after the client or the deadline has cancelled it, or after the connection broke.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context

from statewise.service.transport.calls import (
    Call,
    CallAbandoned,
    CallServer,
    Ending,
    Method,
    certificate_names,
)
from statewise.service.transport.queue import _core
from statewise.service.transport.queue._core import Event

_log = logging.getLogger(__name__)

_DETAILS = "grpc-status-details-bin"
_NO_DEADLINE_S = 1e15
"""A call without a deadline has one at the end of gRPC's time, in 292 thousand million years."""


class QueueCall(Call):
    """A call that has begun.

    Args:
        event: The event of its beginning.
        stall_s: Seconds within which the client must take the last reply and the status.
    """

    def __init__(self, event: Event, *, stall_s: float) -> None:
        self._call = event.call
        self._metadata = event.invocation_metadata
        self._deadline = event.call_details.deadline
        self._context = copy_context()
        self._task: asyncio.Task[Ending] | None = None
        self._received: Callable[[bytes | None], None] | None = None
        self._sent: Callable[[], None] | None = None
        self._has_begun_response = False
        self._stall_s = stall_s
        self._giving_up: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._when_over: list[Callable[[], None]] = []

    def start(self, calls: CallServer, method: Method | None) -> None:
        """Serves the call in a task of its own."""
        _core.start(self._call, (_core.receive_close(),), self._closed)
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(calls.serve(method, self), context=self._context)
        self._task.add_done_callback(self._served)

    def cancel(self) -> None:
        """Ends the call without a status."""
        self._call.cancel()

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return self._metadata

    def peer(self) -> str:
        peer = self._call.peer()
        return peer if isinstance(peer, str) else peer.decode(errors="replace")

    def certificate_names(self) -> list[str]:
        return certificate_names(_core.auth_context(self._call))

    def remaining_s(self) -> float | None:
        remaining_s = self._deadline - time.time()
        return None if remaining_s > _NO_DEADLINE_S else max(0.0, remaining_s)

    def read(self, received: Callable[[bytes | None], None]) -> None:
        self.is_read = True
        self._received = received
        self._start((_core.receive_message(),), self._has_received)

    def send(self, message: bytes, sent: Callable[[], None]) -> None:
        self._sent = sent
        operations: tuple[object, ...] = (_core.send_message(message),)
        self._start(self._response(operations), self._has_sent)

    def on_end(self, ended: Callable[[], None]) -> None:
        self._when_over.append(ended)

    def _start(self, operations: tuple[object, ...], ended: Callable[[Event], None]) -> None:
        """Starts a batch. If gRPC refuses the batch, the call is cancelled, and its end follows."""
        try:
            _core.start(self._call, operations, ended)
        except RuntimeError as error:
            _log.error("a call is cancelled: %s", error)
            self._call.cancel()

    def _response(self, operations: tuple[object, ...]) -> tuple[object, ...]:
        """Operations of the response, with its beginning before the first ones."""
        if self._has_begun_response:
            return operations
        self._has_begun_response = True
        return (_core.send_initial_metadata(), *operations)

    # --- events ---

    def _has_received(self, event: Event) -> None:
        received, self._received = self._received, None
        message = event.batch_operations[0].message()
        if message is None and not event.success:
            # The connection broke, or the message was too large: this is not the end of the requests, and the
            # call's own end follows.
            return
        if received is None:
            return
        if message is None:
            # gRPC tells the same of a client that has said everything and of a call that is cancelled, whose
            # end may be in the queue still: the loop looks there once more before the second turn from now.
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._requests_end, received)
        else:
            self._context.run(received, message)

    def _requests_end(self, received: Callable[[bytes | None], None]) -> None:
        """Tells that the client has said everything, unless the call is over or its deadline has passed."""
        if not self._is_closed and self.remaining_s() != 0:
            self._context.run(received, None)

    def _has_sent(self, event: Event) -> None:
        sent, self._sent = self._sent, None
        if event.success and sent is not None:
            self._context.run(sent)

    def _closed(self, event: Event) -> None:
        self._is_closed = True
        if self._giving_up is not None:
            self._giving_up.cancel()
        if self._task is None or self._task.done():
            self._over()
        elif event.batch_operations[0].cancelled():
            self._task.cancel()

    def _served(self, task: asyncio.Task[Ending]) -> None:
        if self._is_closed:
            if not task.cancelled():
                task.exception()
            self._over()
        elif task.cancelled() or isinstance(task.exception(), CallAbandoned):
            self._call.cancel()
        elif (failure := task.exception()) is not None:
            _log.error("a call failed", exc_info=failure)
            self._call.cancel()
        else:
            self._end(task.result())

    def _end(self, ending: Ending) -> None:
        status = ending.status
        operations: tuple[object, ...]
        if status is not None:
            details = [(_DETAILS, status.SerializeToString())]
            operations = (_core.send_status(status.code, status.message, details),)
        elif ending.message is None:
            operations = (_core.send_status(0, "", ()),)
        else:
            operations = (_core.send_message(ending.message), _core.send_status(0, "", ()))
        loop = asyncio.get_running_loop()
        self._giving_up = loop.call_later(self._stall_s, self._call.cancel)
        self._start(self._response(operations), _ignored)

    def _over(self) -> None:
        when_over, self._when_over = self._when_over, []
        for ended in when_over:
            try:
                ended()
            except Exception as error:
                _log.error("what follows the end of a call failed", exc_info=error)


def _ignored(_: Event) -> None:
    """The event of a call's end says what there is to say."""
