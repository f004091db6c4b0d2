"""Serves methods of a test's own by either transport, in a thread with the transport's event loop."""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from statewise.service.telemetry import Statistics
from statewise.service.transport import make_event_loop
from statewise.service.transport.aio import AioServer
from statewise.service.transport.calls import Call, CallServer, Gate, Method, OpenCalls
from statewise.service.transport.queue import QueueEventLoop, QueueServer

SERVICE = "test.Calls"
WAIT_S = 60.0
MESSAGE_BYTES = 64 * 1024


@dataclass
class Seen:
    """What behaviours report to the test."""

    events: "queue.Queue[Any]" = field(default_factory=queue.Queue)

    def __call__(self, event: Any) -> None:
        self.events.put(event)

    def next(self) -> Any:
        """Waits for the next event."""
        return self.events.get(timeout=WAIT_S)

    def rest(self) -> list[Any]:
        """The events that nobody has waited for."""
        return [self.events.get_nowait() for _ in range(self.events.qsize())]


@dataclass(frozen=True)
class Serving:
    """A server of a test's methods.

    Attributes:
        address: HOST:PORT.
        stop: Stops the server with a grace period; returns when it has stopped.
    """

    address: str
    stop: Callable[[float], None]


def unary(name: str, behaviour: Callable[[bytes, Call], Any], **options: Any) -> Method:
    """A method with one request, which is its bytes; the response is a message."""
    return Method(SERVICE, name, behaviour, options.pop("decode", bytes), responds_once=True)


def streaming(name: str, behaviour: Callable[[bytes, Call], Any]) -> Method:
    """A method with one request, whose behaviour sends the responses."""
    return Method(SERVICE, name, behaviour, bytes, responds_once=False)


def duplex(name: str, behaviour: Callable[[Call], Any]) -> Method:
    """A method whose behaviour reads requests and sends responses."""
    return Method(SERVICE, name, behaviour, None, responds_once=False)


@contextmanager
def serving(
    transport: str,
    *methods: Method,
    calls: int = 10_000,
    open_calls: OpenCalls | None = None,
    stall_s: float = WAIT_S,
) -> Iterator[Serving]:
    """Serves methods; stops the server at the end, without a grace period."""
    loops: list[asyncio.AbstractEventLoop] = []
    addresses: queue.Queue[str] = queue.Queue()
    stops: list[asyncio.Event] = []
    grace: list[float] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        serve = CallServer(Gate(None), open_calls or OpenCalls(calls), Statistics())
        options = [("grpc.max_receive_message_length", MESSAGE_BYTES)]
        server = (
            QueueServer(serve, methods, options, stall_s=stall_s)
            if isinstance(loop, QueueEventLoop)
            else AioServer(serve, methods, options)
        )
        port = server.open_port("127.0.0.1:0", None)
        await server.start()
        loops.append(loop)
        stops.append(asyncio.Event())
        addresses.put(f"127.0.0.1:{port}")
        await stops[0].wait()
        await server.stop(grace[0])

    def serve_in_thread() -> None:
        with asyncio.Runner(loop_factory=lambda: make_event_loop(transport)) as runner:
            runner.run(run())

    def stop(grace_s: float) -> None:
        if not grace:
            grace.append(grace_s)
            loops[0].call_soon_threadsafe(stops[0].set)
        thread.join()

    thread = threading.Thread(target=serve_in_thread, name="test-calls")
    thread.start()
    address = addresses.get(timeout=WAIT_S)
    try:
        yield Serving(address, stop)
    finally:
        stop(0.0)
