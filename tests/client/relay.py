"""Passes TCP connections on to a server, holds replies back, cuts connections, and lets them live shortly."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Relay:
    """Passes TCP connections on to a server. Replies can be held back, and connections cut.

    Args:
        target: HOST:PORT of the server.
        reply_bytes: bytes after which each connection breaks, counted from the server; None: no limit.
    """

    def __init__(self, target: str, *, reply_bytes: int | None = None) -> None:
        self._reply_bytes = reply_bytes
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._cut_after_bytes: int | None = None
        self._was_cut = threading.Event()
        self._connected = threading.Condition()
        self.accepted = 0
        """Connections so far."""
        self._spawn(self._accept)

    def wait_for_connection(self, number: int, timeout_s: float | None = None) -> bool:
        """Waits until so many connections were made; returns False if the time is over before."""
        with self._connected:
            return self._connected.wait_for(lambda: self.accepted >= number, timeout_s)

    def release_replies(self) -> None:
        """Lets the replies that were held back through to the client."""
        self._flowing.set()

    def hold_replies(self) -> None:
        """Holds back, from now on, everything that the server sends."""
        self._flowing.clear()

    def cut(self) -> None:
        """Ends every connection, drops the replies that were held back, and lets new connections through."""
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._flowing.set()

    def cut_after(self, sent_bytes: int) -> threading.Event:
        """Cuts, once, the first connection over which the client has sent more; the event tells when."""
        self._was_cut.clear()
        self._cut_after_bytes = sent_bytes
        return self._was_cut

    def lead_to(self, target: str) -> None:
        """Passes new connections on to another server, HOST:PORT, and ends those that there are."""
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self.cut()

    def close(self) -> None:
        """Ends the relay and its connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()  # after this no connection is added that `cut` would miss
        self.cut()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                with self._connected:
                    self.accepted += 1
                    self._connected.notify_all()
                try:
                    far = socket.create_connection(self._target)
                except ConnectionRefusedError:  # a server that is started again
                    near.close()
                    continue
                self._sockets += [near, far]
                self._spawn(self._pass_on, near, far, None)
                self._spawn(self._pass_on, far, near, self._flowing)

    def _pass_on(self, source: socket.socket, sink: socket.socket, gate: threading.Event | None) -> None:
        left = 1 << 62 if gate is None or self._reply_bytes is None else self._reply_bytes
        sent_bytes = 0
        with suppress(OSError):
            while left and (data := source.recv(min(65536, left))):
                sent_bytes += len(data)
                if gate is not None:
                    gate.wait()
                elif self._cut_after_bytes is not None and sent_bytes > self._cut_after_bytes:
                    self._cut_after_bytes = None
                    self._was_cut.set()
                    break
                sink.sendall(data)
                left -= len(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        if gate is not None:
            source.close()
            sink.close()

    def _spawn(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, name="relay")
        self._threads.append(thread)
        thread.start()
