"""Opens the server's port: checks that the address may be served, sets gRPC's limits, adds TLS.

gRPC enforces the limits of size, number and age itself, before anything is decoded.
"""

import socket

from statewise.service.base import Settings, is_loopback
from statewise.service.transport._tls import server_credentials
from statewise.service.transport.aio import AioServer
from statewise.service.transport.queue import QueueServer

_KEEPALIVE_S = 60
_KEEPALIVE_TIMEOUT_S = 20
_SHORTEST_PING_S = 300
_PING_STRIKES = 2
_LONGEST_METADATA_BYTES = 16 * 1024
_READ_AHEAD_BYTES = 1024 * 1024


class TransportError(Exception):
    """The address cannot or must not be served. The message says why."""


def options(settings: Settings) -> list[tuple[str, int]]:
    """GRPC's options."""
    values = {
        # Applies before a message is read and, to compressed ones, while it is unpacked.
        "max_receive_message_length": settings.message_bytes,
        "max_send_message_length": -1,
        "max_metadata_size": _LONGEST_METADATA_BYTES,
        "absolute_max_metadata_size": _LONGEST_METADATA_BYTES,
        # Two servers on one port would share its connections at random.
        "so_reuseport": 0,
        "max_allowed_incoming_connections": settings.connections,
        "max_concurrent_streams": settings.connection_calls,
        # Calls that wait until they are accepted. By default gRPC refuses them at random from 1,000 on.
        "server.max_pending_requests": settings.calls,
        "server.max_pending_requests_hard_limit": settings.calls,
        "server_handshake_timeout_ms": round(settings.handshake_s * 1000),
        "http2.settings_timeout": round(settings.handshake_s * 1000),
        # Detects clients that are gone or take nothing, and cuts off clients that ping too often.
        "keepalive_time_ms": _KEEPALIVE_S * 1000,
        "keepalive_timeout_ms": _KEEPALIVE_TIMEOUT_S * 1000,
        "http2.min_ping_interval_without_data_ms": _SHORTEST_PING_S * 1000,
        "http2.max_ping_strikes": _PING_STRIKES,
        # Bytes that a client may send ahead of the server's reading. By default this window grows with the
        # speed of the network, and streams that send without end would fill the memory.
        "http2.bdp_probe": 0,
        "http2.lookahead_bytes": _READ_AHEAD_BYTES,
    }
    if settings.connection_age_s:
        values["max_connection_age_ms"] = round(settings.connection_age_s * 1000)
        values["max_connection_age_grace_ms"] = round(settings.grace_s * 1000)
    return [(f"grpc.{name}", value) for name, value in values.items()]


def check_exposure(settings: Settings) -> None:
    """Raises TransportError for an address open to the network without TLS or callers, unless `insecure`."""
    if settings.insecure or is_loopback(settings.listen.rpartition(":")[0]):
        return
    missing = []
    if settings.tls_certificate is None:
        missing.append("TLS (tls_certificate, tls_key)")
    if settings.callers is None and settings.tls_client_ca is None:
        missing.append("callers that it could tell apart (callers, or tls_client_ca)")
    if missing:
        raise TransportError(
            f"listen = {settings.listen!r} can be reached from outside, and the server has no "
            f"{' and no '.join(missing)}; configure that, listen on 127.0.0.1, or say --insecure"
        )


def listen(server: AioServer | QueueServer, settings: Settings) -> str:
    """Opens the port. Returns the address, HOST:PORT.

    Raises:
        TransportError: the port cannot be opened.
        TlsError: certificate or key are invalid.
    """
    host, _, port = settings.listen.rpartition(":")
    credentials = None
    if settings.tls_certificate is not None and settings.tls_key is not None:
        credentials = server_credentials(
            certificate=settings.tls_certificate,
            key=settings.tls_key,
            client_authorities=settings.tls_client_ca,
        )
    try:
        # gRPC would log why it cannot, in lines of its own, and not say it.
        if why_not := _why_not(host, int(port)):
            raise TransportError(f"cannot listen on {host}:{port}: {why_not}")
        bound = server.open_port(settings.listen, credentials)
    except RuntimeError:
        raise TransportError(f"cannot listen on {host}:{port}: gRPC cannot bind it") from None
    return f"{host}:{bound}"


def _why_not(host: str, port: int) -> str:
    """Returns the system's reason why nobody can listen on an address; empty: it knows none."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            return error.strerror or str(error)
    return ""
