"""Wakes a completion queue from another thread: an empty batch of a call ends at once, as an event.

gRPC offers no other way to wake a queue. The call is one that this module makes to itself when the queue is
new, over a socket that is closed right after: a batch may be empty even when its call is over.
"""

import os
import secrets
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from statewise.service.transport.queue import _core
from statewise.service.transport.queue._core import CompletionQueue, CoreCall, Event

_PATIENCE_S = 5.0


class QueueUnavailable(Exception):  # noqa: N818  # a fact about the platform
    """This platform or this grpcio has no completion queue that can be used. The message says why."""


class WakeUp:
    """Wakes one completion queue.

    Args:
        queue: A new queue, which no other thread polls yet.

    Raises:
        QueueUnavailable: the queue cannot be woken.
    """

    def __init__(self, queue: CompletionQueue) -> None:
        try:
            self._call = _call_to_itself(queue)
        except (OSError, RuntimeError) as error:
            raise QueueUnavailable(f"the server cannot call itself: {error}") from error
        # A signal's handler may wake the loop while its own thread is in here.
        self._lock = threading.RLock()
        self._asked = False
        self._closed = False
        self()
        event = queue.poll(time.time() + _PATIENCE_S)
        if event.tag != self.noticed:
            raise QueueUnavailable("an empty batch is no event")
        self.noticed(event)

    def __call__(self) -> None:
        """Makes the queue give an event; several calls before it is noticed give one. From any thread."""
        with self._lock:
            if not self._asked and not self._closed:
                self._asked = True
                _core.start(self._call, (), self.noticed)

    def noticed(self, _: Event) -> None:
        """Handles the event: the next call gives another one."""
        with self._lock:
            self._asked = False

    def close(self) -> None:
        """Does nothing from now on: a batch on a queue that has shut down would end the process."""
        with self._lock:
            self._closed = True


def _call_to_itself(queue: CompletionQueue) -> CoreCall:
    """Returns a call whose events go to the queue."""
    with ExitStack() as opened:
        if sys.platform == "linux":
            # Needs no folder: a container may have none that can be written.
            address = f"unix-abstract:statewise-{os.getpid()}-{secrets.token_hex(8)}"
        else:
            folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="statewise-"))
            address = f"unix:{Path(folder) / 'wake-up'}"
        server = _core.make_server(queue, [("grpc.so_reuseport", 0)])
        _core.open_port(server, address, None)
        server.start()
        server.request_call(queue, queue, "call")
        with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            wake_up: Any = channel.unary_unary("/statewise/WakeUp")
            calling = wake_up.future(b"", timeout=_PATIENCE_S)
            accepted = queue.poll(time.time() + _PATIENCE_S)
            calling.cancel()
        # The connection closes by itself: gRPC would log the end of one whose calls the server cancels.
        server.shutdown(queue, "shutdown")
        stopped = queue.poll(time.time() + _PATIENCE_S)
        if stopped.tag is None:
            server.cancel_all_calls()
            stopped = queue.poll(time.time() + _PATIENCE_S)
        tags: tuple[Any, Any] = accepted.tag, stopped.tag
        if tags != ("call", "shutdown"):
            raise QueueUnavailable("a call that the server makes to itself does not arrive")
        server.destroy()
    return accepted.call
