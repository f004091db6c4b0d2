"""Where gRPC begins: how a channel is made, and what its errors mean.

The only module, beside the two shells, that knows the transport.
"""

from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_status import rpc_status

from statewise.client._status import Status, status_of_rpc

_OPTIONS: tuple[tuple[str, int], ...] = (
    # The server's limit rules; replies are bounded by what was asked.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A peer that vanished while something was on its way to it is noticed in ten seconds, otherwise at the
    # next ping. Pings more often than every five minutes on an idle connection make servers hang up.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # The hub spaces its own tries, so the channel's need not be further apart.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True)
class Tls:
    """How the server is checked, and how this client shows who it is.

    Attributes:
        ca: PEM file of the authorities trusted; None: the system's.
        certificate: PEM file of this client's certificate chain, for mutual TLS.
        key: PEM file of its private key.
        server_name: name expected in the server's certificate, where it is not the target's.
    """

    ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None
    server_name: str | None = None


@dataclass(frozen=True)
class Endpoint:
    """Where a channel goes, and what its calls carry.

    Attributes:
        target: as gRPC takes it: HOST:PORT, dns:///NAME:PORT.
        credentials: of the channel; None: plain text.
        options: of the channel.
        metadata: of every call.
    """

    target: str
    credentials: grpc.ChannelCredentials | None
    options: tuple[tuple[str, str | int], ...]
    metadata: tuple[tuple[str, str | bytes], ...]

    @classmethod
    def of(cls, target: str, *, token: str | None, tls: Tls | bool | None) -> "Endpoint":
        """Reads what a caller passed.

        Raises:
            OSError: a file of `tls` cannot be read.
        """
        files = Tls() if tls is True else tls or None
        options: tuple[tuple[str, str | int], ...] = _OPTIONS
        if files is not None and files.server_name is not None:
            options += (("grpc.ssl_target_name_override", files.server_name),)
        return cls(
            target,
            None if files is None else _credentials(files),
            options,
            () if token is None else (("authorization", f"Bearer {token}"),),
        )


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    def read(path: Path | str | None) -> bytes | None:
        return None if path is None else Path(path).read_bytes()

    return grpc.ssl_channel_credentials(read(tls.ca), read(tls.key), read(tls.certificate))


def status_of(error: grpc.RpcError) -> Status:
    """What an error of the transport means."""
    try:
        rich = rpc_status.from_call(error)
    except (ValueError, AttributeError):
        rich = None
    if rich is not None:
        return status_of_rpc(rich)
    return Status(error.code().name, message=error.details() or "")


ENDED = Status("UNAVAILABLE", message="the server ended the stream")
