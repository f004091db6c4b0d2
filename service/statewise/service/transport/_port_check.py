"""Makes a call through the server's own port, to learn whether the server still answers.

The call is a health check over a connection of its own, in frames of HTTP/2 (RFC 9113) that are written here.
gRPC's client would have to trust the server's certificate, and to have one where the server asks for it.
"""

import socket
import ssl
import struct
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

_HEADERS, _DATA, _SETTINGS = 1, 0, 4
_END_STREAM, _END_HEADERS = 1, 4
_HEAD_BYTES = 9
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}


def port_answers(address: str, *, certificate: Path | None, key: Path | None, timeout_s: float) -> bool:
    """Returns whether the server answers a health check, with any answer. Blocks.

    A connection that the server closes counts as an answer: the server is at its limit of connections, or
    wants a certificate of another authority.

    Args:
        address: HOST:PORT that the server listens on.
        certificate: The server's certificate; None: no TLS.
        key: The key of the certificate.
        timeout_s: Time for connecting, for the handshake and for each read.
    """
    host, _, port = address.rpartition(":")
    target = (_EVERY_ADDRESS.get(host, host.strip("[]")), int(port))
    try:
        with ExitStack() as open_sockets:
            connection = open_sockets.enter_context(socket.create_connection(target, timeout_s))
            if certificate is not None:
                secured = _unverified(certificate, key).wrap_socket(connection)
                connection = open_sockets.enter_context(secured)
            connection.sendall(_REQUEST)
            return _is_answered(open_sockets.enter_context(connection.makefile("rb")))
    except (ConnectionRefusedError, TimeoutError):
        return False
    except OSError:
        return True


def _unverified(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """A context for a connection to this very process, which shows the server's own certificate if asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with suppress(OSError):
        context.load_cert_chain(certificate, key, password="")
    return context


def _is_answered(replies: BinaryIO) -> bool:
    """Reads frames up to the first header of the call, or to the end of the connection."""
    while len(head := replies.read(_HEAD_BYTES)) == _HEAD_BYTES:
        replies.read(int.from_bytes(head[:3], "big"))
        if head[3] == _HEADERS:
            break
    return True


def _frame(kind: int, payload: bytes, *, flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _fields(**named: str) -> bytes:
    """Literal header fields without indexing (RFC 7541, 6.2.2), lengths below 127 in one byte each."""
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in named.items()
    )


_CALL = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/grpc.health.v1.Health/Check",
    ":authority": "localhost",
    "content-type": "application/grpc",
    "te": "trailers",
}
_REQUEST = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + _frame(_SETTINGS, b"")
    + _frame(_HEADERS, _fields(**_CALL), flags=_END_HEADERS, stream=1)
    + _frame(_DATA, bytes(5), flags=_END_STREAM, stream=1)
)
"""A whole health check: an empty message asks about the server."""
