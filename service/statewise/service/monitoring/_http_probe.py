"""Answers /metrics, /readyz and /healthz over HTTP, for monitoring and orchestration.

Runs in threads of its own, so it answers while models load or something holds up the event loop. Python's
HTTP server carries Prometheus's application. HTTP here is in clear and without credentials: answers must hold
nothing of a session and no secret. At most `_CONNECTIONS` connections are open at once; one that sends
nothing for `_SILENCE_S` is closed.
"""

import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)

_CONNECTIONS = 16
_SILENCE_S = 5.0
_POLL_S = 0.1  # between two checks for `stop`


class HttpProbe:
    """An HTTP server.

    Args:
        metrics: Answers /metrics.
        why_not_ready: Why the server takes no requests; empty: it takes them (/readyz is 200 then, else 503).
        is_alive: Whether the server works (/healthz is 200 then, else 503).
    """

    def __init__(
        self,
        metrics: WSGIApplication,
        *,
        why_not_ready: Callable[[], str],
        is_alive: Callable[[], bool],
    ) -> None:
        self._metrics = metrics
        self._why_not_ready = why_not_ready
        self._is_alive = is_alive
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
        if path == "/metrics":
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
        return _plain(start_response, "404 Not Found", "there are /metrics, /readyz and /healthz")


def _plain(start_response: StartResponse, status: str, text: str) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")])
    return [f"{text}\n".encode()]


class _HttpServer(socketserver.ThreadingMixIn, WSGIServer):
    """Serves each connection in a thread, up to a number of connections."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._free_connections = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(*arguments)

    def server_bind(self) -> None:
        # Skips HTTPServer's look-up of the host's name, which may take long.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free_connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free_connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("a probe's connection broke", exc_info=True)


class _ServerOfIpv6(_HttpServer):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _SILENCE_S

    def log_message(self, format: str, *arguments: Any) -> None:
        """Logs at debug level: probes come every few seconds."""
        _log.debug(format, *arguments)
