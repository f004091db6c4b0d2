"""Relays connections to a unix socket; cuts them, or delays what they carry, where a test says."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class CuttingProxy:
    """A relay in threads of its own. It passes everything on until it is told otherwise."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.url = f"unix://{folder / 'proxy.sock'}"
        self._target = str(target)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "proxy.sock"))
        self._listener.listen()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._reply_bytes: int | None = None
        self._at_the_reply: Callable[[], None] = self.cut
        self._bytes_left: int | None = None
        self._at_the_cut: Callable[[], None] = self.cut
        self._holding = False
        self._release = threading.Event()
        self._delivered = threading.Event()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def cut(self) -> None:
        """Cuts all connections that are open."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def cut_after_bytes(self, count: int, action: Callable[[], None]) -> None:
        """Once a connection has passed that many bytes to the server, calls `action` and cuts it."""
        self._at_the_cut = action
        self._bytes_left = count

    def cut_next_reply(self, after_bytes: int = 0, action: Callable[[], None] | None = None) -> None:
        """Cuts the connection within the server's next reply, once.

        Args:
            after_bytes: How much of the reply is passed on, at most.
            action: Called before.
        """
        self._at_the_reply = action or (lambda: None)
        self._reply_bytes = after_bytes

    def hold_next_call(self) -> None:
        """Keeps the next call, until the client has given up its connection and `deliver` is called."""
        self._holding = True

    def deliver(self) -> None:
        """Gives the server the call that was held, and waits until the server has answered."""
        self._release.set()
        self._delivered.wait()

    def close(self) -> None:
        """Ends the threads."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self._release.set()
        self.cut()
        for thread in self._threads:
            thread.join()
        for one in self._open:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            with self._lock:
                self._open += [client, server]
            try:
                server.connect(self._target)
            except OSError:
                client.shutdown(socket.SHUT_RDWR)
                continue
            for passing in (self._pass_calls, self._pass_replies):
                thread = threading.Thread(target=passing, args=(client, server))
                self._threads.append(thread)
                thread.start()

    def _pass_calls(self, client: socket.socket, server: socket.socket) -> None:
        held = b""
        with suppress(OSError):
            while chunk := client.recv(1 << 16):
                if self._holding or held:
                    self._holding = False
                    held += chunk
                elif self._bytes_left is not None and len(chunk) >= self._bytes_left:
                    server.sendall(chunk[: self._bytes_left])
                    self._bytes_left = None
                    self._at_the_cut()
                    break
                else:
                    self._bytes_left = None if self._bytes_left is None else self._bytes_left - len(chunk)
                    server.sendall(chunk)
            if held:
                self._release.wait()
                server.sendall(held)
                return
        _end(client, server)

    def _pass_replies(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while chunk := server.recv(1 << 16):
                if self._release.is_set():
                    self._delivered.set()
                if self._reply_bytes is not None:
                    client.sendall(chunk[: self._reply_bytes])
                    self._reply_bytes = None
                    self._at_the_reply()
                    break
                client.sendall(chunk)
        _end(client, server)


def _end(client: socket.socket, server: socket.socket) -> None:
    for one in (client, server):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting_proxy(folder: Path, target: Path) -> Iterator[CuttingProxy]:
    """A proxy to a unix socket, whose own socket lies in a folder with a short path."""
    proxy = CuttingProxy(folder, target)
    try:
        yield proxy
    finally:
        proxy.close()
