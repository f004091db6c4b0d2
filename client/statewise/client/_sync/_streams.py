"""Runs session streams with threads: one lock around the multiplexer, one reader thread for each connection.

Nothing here refers to the shell, so a client that its program dropped without closing can be collected.
"""

import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from statewise.client.core import ClientCore
from statewise.client.requests import ClientOptions
from statewise.client.stream import StreamConnection
from statewise.client.transport import ENDED, Endpoint, SyncConnection, open_shells

_END_WAIT_S = 5.0


class SyncStreams:
    """A channel, the client's core, and the threads that read replies.

    Args:
        endpoint: the server's.
        options: the client's.
    """

    def __init__(self, endpoint: Endpoint, options: ClientOptions) -> None:
        self.connection = SyncConnection(
            endpoint, options.tracing, lambda: self.core.multiplexer.closed_error()
        )
        # Re-entrant: the multiplexer calls back into this transport.
        self.lock = threading.RLock()
        self._work = threading.Condition(self.lock)
        self._threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._calls: dict[int, Any] = {}
        self._timers: set[threading.Timer] = set()
        self.core = ClientCore(self, options)

    def close(self) -> None:
        """Ends the connection and its threads; returns when gRPC is done with every call.

        A call that gRPC still worked on when the interpreter ends would hold its lock for ever.
        """
        with self.lock:
            self.core.multiplexer.close()
            calls = list(self._calls.values())
            timers = list(self._timers)
            threads = list(self._threads)
        for timer in timers:
            timer.cancel()
        for call in calls:
            call.cancel()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(_END_WAIT_S)
        self.connection.close()

    def close_aside(self) -> None:
        """Closes in a thread: the garbage collector may call this while the lock is held."""
        open_shells.close_aside(self.close)

    def forked(self) -> None:
        """Makes the client refuse work in a child process; the parent goes on."""
        self.lock = threading.RLock()
        self._work = threading.Condition(self.lock)
        self.core.multiplexer.forked()

    # For the multiplexer, which calls with the lock held.

    def connect(self, stream: StreamConnection) -> None:
        """See `Transport`."""
        self._calls[stream.number] = call = self.connection.open_stream(self._requests(stream))
        reader = threading.Thread(
            target=self._read, args=(stream, call), name="statewise-client", daemon=True
        )
        self._threads.add(reader)
        reader.start()

    def wake(self, stream: StreamConnection) -> None:
        """See `Transport`."""
        self._work.notify_all()

    def after(self, delay_s: float, callback: Callable[[], None]) -> None:
        """See `Transport`."""

        def fire() -> None:
            with self.lock:
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

    def _requests(self, stream: StreamConnection) -> Iterator[bytes]:
        while True:
            with self.lock:
                while (message := stream.take()) is None:
                    if stream.retired or stream.ended:
                        return
                    self._work.wait()
            yield message

    def _read(self, stream: StreamConnection, call: Any) -> None:
        status = ENDED
        try:
            status = self.connection.read_stream(call, stream, self.core.multiplexer.receive, self.lock)
        finally:
            with self.lock:
                self._calls.pop(stream.number, None)
                self.core.multiplexer.broken(stream, status)
