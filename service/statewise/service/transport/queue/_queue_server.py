"""Opens ports and accepts calls on the queue of the running event loop; a call server serves them."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

import grpc

from statewise.service.transport.calls import CallServer, Method
from statewise.service.transport.queue import _core
from statewise.service.transport.queue._core import Event
from statewise.service.transport.queue._event_loop import QueueEventLoop
from statewise.service.transport.queue._queue_call import QueueCall

_log = logging.getLogger(__name__)

_POSTED = 64
"""Calls that gRPC may begin before the loop has looked; each posted request admits one."""


class QueueServer:
    """A server on the completion queue that the running event loop polls.

    Args:
        calls: Serves the calls.
        methods: Of all services.
        options: gRPC's.
        stall_s: Seconds within which a client must take the last reply and the status of a call.
    """

    def __init__(
        self,
        calls: CallServer,
        methods: Sequence[Method],
        options: Sequence[tuple[str, int]],
        *,
        stall_s: float = 60.0,
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, QueueEventLoop)
        self._loop = loop
        self._calls = calls
        self._stall_s = stall_s
        self._methods = {method.path.encode(): method for method in methods}
        self._server = _core.make_server(loop.queue, options)
        self._open: set[QueueCall] = set()
        self._posted = 0
        self._stopping = False
        self._all_ended = asyncio.Event()
        self._is_started = False

    @property
    def accepts(self) -> bool:
        """Whether new calls are accepted."""
        return not self._stopping

    def open_port(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Opens a port. Returns its number.

        Args:
            address: HOST:PORT; port 0: a free one.
            credentials: TLS; None: plain text.

        Raises:
            RuntimeError: the port cannot be opened.
        """
        return _core.open_port(self._server, address, credentials)

    async def start(self) -> None:
        """Accepts calls."""
        self._server.start()
        self._is_started = True
        for _ in range(_POSTED):
            self._post()

    async def stop(self, grace_s: float) -> None:
        """Refuses new calls, and ends those under way after the grace period."""
        self._stopping = True
        if not self._is_started:
            # gRPC shuts down only servers that have started, and may free only those that have shut down.
            self._server.start()
        stopped = self._loop.create_future()
        self._server.shutdown(self._loop.queue, lambda _: stopped.set_result(None))
        try:
            async with asyncio.timeout(grace_s):
                await asyncio.shield(stopped)
        except TimeoutError:
            self._server.cancel_all_calls()
            await stopped
        self._check_all_ended()
        await self._all_ended.wait()
        self._server.destroy()

    def _post(self) -> None:
        self._posted += 1
        self._server.request_call(self._loop.queue, self._loop.queue, self._begun)

    def _begun(self, event: Event) -> None:
        self._posted -= 1
        if not event.success:
            self._check_all_ended()
            return
        if not self._stopping:
            self._post()
        call = QueueCall(event, stall_s=self._stall_s)
        self._open.add(call)
        call.on_end(partial(self._ended, call))
        try:
            call.start(self._calls, self._methods.get(event.call_details.method))
        except RuntimeError:
            self._ended(call)
            raise

    def _ended(self, call: QueueCall) -> None:
        self._open.discard(call)
        self._check_all_ended()

    def _check_all_ended(self) -> None:
        if self._stopping and not self._open and not self._posted:
            self._all_ended.set()
