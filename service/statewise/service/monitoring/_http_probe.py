"""HTTP beside the service, for machines that watch it: /metrics, /readyz and /healthz.

In threads of its own, not on the event loop: while models load, or when something holds the loop up, it still
answers and says so. Python's own HTTP server carries Prometheus's own application. Plain HTTP without
credentials, so nothing of a session or of a secret may be told here. Connections are few and short: beyond
`_CONNECTIONS` at once they are closed, and who says nothing for `_PATIENCE_S` is hung up on.
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
_PATIENCE_S = 5.0
_POLL_S = 0.1  # between two looks whether to stop


class HttpProbe:
    """Answers until it is stopped.

    Args:
        metrics: Answers /metrics.
        why_not_ready: Why the server takes no work; empty: it does (/readyz is 200 then, else 503).
        is_alive: Whether the server still works (/healthz is 200 then, else 503).
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
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, host: str, port: int) -> str:
        """Listens; gives the address, HOST:PORT. Port 0 picks a free one.

        Raises:
            OSError: the address cannot be had.
        """
        bare = host.strip("[]")
        kind = _ServerOfIpv6 if ":" in bare else _Server
        self._server = make_server(bare, port, self._answer, kind, _Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="statewise-probe", daemon=True
        )
        self._thread.start()
        return f"{host}:{self._server.server_port}"

    def stop(self) -> None:
        """Stops listening; answers under way may be cut off."""
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


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread a connection, and no more than so many."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._room = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(*arguments)

    def server_bind(self) -> None:
        # Without the look-up of the host's name that the class between makes: it may take long.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("a probe's connection broke", exc_info=True)


class _ServerOfIpv6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE_S

    def log_message(self, format: str, *arguments: Any) -> None:
        """Probes come every few seconds: nobody reads that."""
        _log.debug(format, *arguments)
