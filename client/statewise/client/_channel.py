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


def credentials_of(tls: Tls | bool | None) -> grpc.ChannelCredentials | None:
    """Credentials of a channel; None: plain text."""
    if tls is None or tls is False:
        return None
    files = Tls() if tls is True else tls

    def read(path: Path | str | None) -> bytes | None:
        return None if path is None else Path(path).read_bytes()

    return grpc.ssl_channel_credentials(read(files.ca), read(files.key), read(files.certificate))


def options_of(tls: Tls | bool | None) -> list[tuple[str, str | int]]:
    """Options of a channel."""
    options: list[tuple[str, str | int]] = list(_OPTIONS)
    if isinstance(tls, Tls) and tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def metadata_of(token: str | None) -> tuple[tuple[str, str | bytes], ...]:
    """What every call carries."""
    return () if token is None else (("authorization", f"Bearer {token}"),)


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
