"""Where gRPC begins: how a channel is made, and what its errors mean.

The only module, beside the two shells, that knows the transport.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_status import rpc_status

from statewise.client.stream import Metadata, Tracing
from statewise.client.values import InvalidInput, Status, status_of_rpc
from statewise.v1 import admin_pb2_grpc, model_pb2_grpc, sequence_pb2, sequence_pb2_grpc

KEEPALIVE_S = 310.0
"""Longer than the five minutes within which most servers take a second ping for an attack."""

_PING_ANSWER_S = 10.0

_OPTIONS: Mapping[str, str | int] = {
    # The server's limit rules; replies are bounded by what was asked.
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    # Calls go to all addresses of the target in turn, and the stream to one that answers.
    "grpc.service_config": json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}),
    "grpc.http2.max_pings_without_data": 0,
    # The multiplexer spaces its own tries, so the channel's need not be further apart.
    "grpc.initial_reconnect_backoff_ms": 50,
    "grpc.max_reconnect_backoff_ms": 1_000,
    # In spite of its name: how long one attempt may take, handshakes included.
    "grpc.min_reconnect_backoff_ms": 5_000,
}


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
        target: as gRPC takes it: HOST:PORT, dns:///NAME:PORT, ipv4:HOST:PORT,HOST:PORT.
        credentials: of the channel; None: plain text.
        options: of the channel.
        metadata: of every call.
    """

    target: str
    credentials: grpc.ChannelCredentials | None
    options: tuple[tuple[str, str | int], ...]
    metadata: Metadata

    @classmethod
    def of(
        cls,
        target: str,
        *,
        token: str | None,
        tls: Tls | bool | None,
        keepalive_s: float,
        channel_options: Mapping[str, str | int] | None,
    ) -> "Endpoint":
        """Reads what a caller passed.

        Raises:
            InvalidInput: `keepalive_s` is no positive number, or `target` or `token` cannot be meant.
            OSError: a file of `tls` cannot be read.
        """
        if not (keepalive_s > 0 and math.isfinite(keepalive_s)):
            raise InvalidInput(f"expected a keepalive_s of more than 0 s; got {keepalive_s!r}")
        _check_target(target)
        if token is not None and not re.fullmatch("[!-~]([ -~]*[!-~])?", token):
            raise InvalidInput(
                "expected a token of printable ASCII characters, no white space at its ends; got others: "
                "was it read with a line break?"
            )
        files = Tls() if tls is True else tls or None
        answer_ms = math.ceil(1000 * min(keepalive_s, _PING_ANSWER_S))
        options = {
            **_OPTIONS,
            # The first bounds how long an acknowledgement by TCP may take, the last the answer to a ping.
            "grpc.keepalive_timeout_ms": answer_ms,
            "grpc.keepalive_time_ms": math.ceil(1000 * keepalive_s),
            "grpc.http2.ping_timeout_ms": answer_ms,
        }
        if files is not None and files.server_name is not None:
            options["grpc.ssl_target_name_override"] = files.server_name
        options |= channel_options or {}
        return cls(
            target,
            None if files is None else _credentials(files),
            tuple(options.items()),
            () if token is None else (("authorization", f"Bearer {token}"),),
        )


def _check_target(target: str) -> None:
    """Raises InvalidInput for what gRPC would take for another address, or for none only later."""
    ports = [] if target.startswith("unix") else re.findall(r":(\d+)(?=,|$)", target)
    if not target or re.match("https?://", target) or any(not 1 <= int(port) <= 65_535 for port in ports):
        raise InvalidInput(f"expected a target HOST:PORT, or dns:///NAME:PORT; got {target!r}")


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    def read(path: Path | str | None) -> bytes | None:
        return None if path is None else Path(path).read_bytes()

    return grpc.ssl_channel_credentials(read(tls.ca), read(tls.key), read(tls.certificate))


STREAMING = frozenset({"Predict", "Generate", "WatchStats"})
"""Methods that answer one request with several responses."""


def methods(channel: Any) -> dict[str, Callable[..., Any]]:
    """The calls with one request on a channel of either kind, by method."""
    sequences = sequence_pb2_grpc.SequenceServiceStub(channel)
    models = model_pb2_grpc.ModelServiceStub(channel)
    admin = admin_pb2_grpc.AdminServiceStub(channel)
    return {
        "ListModels": models.ListModels,
        "GetModel": models.GetModel,
        "GetServer": admin.GetServer,
        "ListSessions": admin.ListSessions,
        # Its requests are encoded already.
        "Predict": channel.unary_stream(
            "/statewise.v1.SequenceService/Predict",
            response_deserializer=sequence_pb2.PredictResponse.FromString,
        ),
        "Generate": sequences.Generate,
        "WatchStats": admin.WatchStats,
    }


def session_stream(channel: Any) -> Any:
    """The session stream of a channel of either kind; its requests are encoded already."""
    return channel.stream_stream(
        "/statewise.v1.SequenceService/SessionStream",
        response_deserializer=sequence_pb2.SessionStreamResponse.FromString,
    )


def carried(metadata: Metadata, method: str, tracing: Tracing | None) -> AbstractContextManager[Metadata]:
    """Around a call: the metadata that it carries, its span's included where spans are made."""
    return nullcontext(metadata) if tracing is None else tracing.call(method, metadata)


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
