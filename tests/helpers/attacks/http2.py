"""Sends frames of HTTP/2 (RFC 9113) over a plain socket, also such as gRPC's own clients never send."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_HEADERS = 4
MAX_CONCURRENT_STREAMS = (3).to_bytes(2, "big")
"""Key of a SETTINGS frame."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


class Connection:
    """A connection that sends only what the test asks for, and acknowledges nothing."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=_TIMEOUT_S)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(_PREFACE)
        self.send(SETTINGS, b"")

    def send(self, kind: int, *payloads: bytes, flags: int = 0, stream: int = 0) -> None:
        """Sends frames of one kind in one write."""
        self._socket.sendall(b"".join(_frame(kind, payload, flags, stream) for payload in payloads))

    def call(self, method: str, stream: int = 1, **metadata: str) -> None:
        """Begins a call of /SERVICE/METHOD; stream numbers are odd and rise."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "localhost",
            "content-type": "application/grpc",
            "te": "trailers",
            **{name.replace("_", "-"): value for name, value in metadata.items()},
        }
        # Literal fields without indexing (RFC 7541, 6.2.2), lengths below 127 in one byte.
        block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
        self.send(HEADERS, block, flags=END_HEADERS, stream=stream)

    def message(self, content: bytes, *, announced: int, stream: int = 1) -> None:
        """Sends the beginning of a gRPC message that announces this length in bytes."""
        self.send(DATA, struct.pack(">BI", 0, announced) + content, stream=stream)

    def frames(self) -> Iterator[Frame]:
        """Reads frames until the peer closes the connection."""
        while len(head := self._file.read(9)) == 9:
            size = int.from_bytes(head[:3], "big")
            yield Frame(head[3], head[4], int.from_bytes(head[5:], "big"), self._file.read(size))

    def trailers(self) -> bytes:
        """The header block that holds a status, not decoded: gRPC sends these headers as plain text."""
        for frame in self.frames():
            if frame.kind == HEADERS and b"grpc-status" in frame.payload:
                return frame.payload
        raise AssertionError("the connection was closed without a status")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _frame(kind: int, payload: bytes, flags: int, stream: int) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _text(text: str) -> bytes:
    """Lone surrogates stand for bytes that are not UTF-8."""
    content = text.encode(errors="surrogateescape")
    assert len(content) < 127
    return bytes([len(content)]) + content
