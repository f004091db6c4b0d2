"""Answers /readyz, /healthz and, where it is given, /metrics over HTTP, for monitoring and orchestration.

Runs in threads of its own, so it answers while models load or something holds up the event loop. Python's
HTTP server carries Prometheus's application. HTTP here is in clear and without credentials: answers must hold
nothing of a session and no secret. At most `_CONNECTIONS` connections are open at once: a further one closes
the oldest. A connection that takes too long to send its request, or to take the answer, is closed, too.
"""

import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)

_CONNECTIONS = 16
# Connections that wait to be accepted. A client beyond them tries again after a second; Python allows 5.
_BACKLOG = 128
_REQUEST_S = 5.0
_ANSWER_S = 30.0
_POLL_S = 0.1  # between two checks for `stop`


class HttpProbe:
    """An HTTP server.

    Args:
        metrics: Answers /metrics; None: the server tells its health and nothing else.
        why_not_ready: Why the server takes no requests; empty: it takes them (/readyz is 200 then, else 503).
        is_alive: Whether the server works (/healthz is 200 then, else 503).
        request_s: Seconds within which a connection has to send its whole request.
    """

    def __init__(
        self,
        metrics: WSGIApplication | None,
        *,
        why_not_ready: Callable[[], str],
        is_alive: Callable[[], bool],
        request_s: float = _REQUEST_S,
    ) -> None:
        self._metrics = metrics
        self._why_not_ready = why_not_ready
        self._is_alive = is_alive
        self._request_s = request_s
        self._server: _HttpServer | None = None
        self._thread: threading.Thread | None = None

    def start(self, host: str, port: int) -> str:
        """Starts to listen. Returns the address, HOST:PORT; port 0 picks a free port.

        Raises:
            OSError: the address cannot be opened.
        """
        bare = host.strip("[]")
        kind = _ServerOfIpv6 if ":" in bare else _HttpServer
        self._server = make_server(bare, port, self._answer, kind, _Handler)
        self._server.request_s = self._request_s
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="statewise-probe", daemon=True
        )
        self._thread.start()
        return f"{host}:{self._server.server_port}"

    def stop(self) -> None:
        """Stops listening; requests under way may get no answer."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics" and self._metrics is not None:
            return self._metrics(environ, start_response)
        if path == "/readyz":
            why_not = self._why_not_ready()
            return _plain(
                start_response, "503 Service Unavailable" if why_not else "200 OK", why_not or "ready"
            )
        if path == "/healthz":
            alive = self._is_alive()
            status = "200 OK" if alive else "503 Service Unavailable"
            return _plain(start_response, status, "alive" if alive else "the event loop does not answer")
        others = "/readyz and /healthz" if self._metrics is None else "/metrics, /readyz and /healthz"
        return _plain(start_response, "404 Not Found", f"there are {others}")


def _plain(start_response: StartResponse, status: str, text: str) -> list[bytes]:
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]
    start_response(status, [*headers, ("Server", _Handler.server_version)])
    return [f"{text}\n".encode()]


class _HttpServer(socketserver.ThreadingMixIn, WSGIServer):
    """Serves each connection in a thread, up to a number of connections."""

    daemon_threads = True
    request_queue_size = _BACKLOG
    request_s = _REQUEST_S

    def __init__(self, *arguments: Any) -> None:
        self._lock = threading.Lock()
        self._due_s: dict[socket.socket, float] = {}
        """When each open connection is closed at the latest, the oldest first."""
        self._free_threads = threading.BoundedSemaphore(2 * _CONNECTIONS)
        super().__init__(*arguments)

    def server_bind(self) -> None:
        # Skips HTTPServer's look-up of the host's name, which may take long.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        # A connection that was cut has its thread for a moment longer, hence more threads than connections.
        if not self._free_threads.acquire(timeout=_POLL_S):
            self.shutdown_request(request)
            return
        with self._lock:
            if len(self._due_s) >= _CONNECTIONS:
                self._cut(next(iter(self._due_s)))
            self._due_s[request] = time.monotonic() + self.request_s
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free_threads.release()

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection that is done."""
        with self._lock:
            self._due_s.pop(request, None)
        super().shutdown_request(request)

    def request_received(self, request: Any) -> None:
        """Gives a connection the time to take its answer."""
        with self._lock:
            if request in self._due_s:
                self._due_s[request] = time.monotonic() + _ANSWER_S

    def service_actions(self) -> None:
        """Cuts the connections that took too long; called several times a second."""
        now_s = time.monotonic()
        with self._lock:
            for request in [one for one, due_s in self._due_s.items() if due_s <= now_s]:
                self._cut(request)

    def _cut(self, request: socket.socket) -> None:
        """Ends a connection whose thread may be reading or writing; the thread then closes it."""
        del self._due_s[request]
        with suppress(OSError):  # the client has left already
            request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("a probe's connection broke", exc_info=True)


class _ServerOfIpv6(_HttpServer):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    # Which release of Python this is concerns nobody.
    server_version = "statewise"
    sys_version = ""

    def get_environ(self) -> WSGIEnvironment:
        """Describes the request, which has been received."""
        self.server.request_received(self.request)  # type: ignore[attr-defined]
        return super().get_environ()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Logs at debug level: probes come every few seconds."""
        _log.debug(format, *arguments)
