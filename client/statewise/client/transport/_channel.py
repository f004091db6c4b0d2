"""Makes the options, credentials and calls of gRPC channels, and translates gRPC's errors."""

import json
import logging
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
from statewise.client.transport._explanations import Route
from statewise.client.values import (
    InvalidInput,
    Status,
    check_channel_options,
    check_path,
    check_seconds,
    check_text,
    status_of_rpc,
    wrong,
)
from statewise.v1 import admin_pb2_grpc, model_pb2_grpc, sequence_pb2, sequence_pb2_grpc

_LOG = logging.getLogger(__name__)

KEEPALIVE_S = 310.0
"""More than five minutes: most servers take a second ping within five minutes for an attack."""

_PING_ANSWER_S = 10.0
_PLAIN = Route(tls=False)

# gRPC sends even calls to this machine through a proxy that the environment names.
_LOOPBACK = re.compile(r"(dns:(//[^/]*/)?)?(localhost|127(\.\d+){3}|\[::1\])(:|$)|ipv4:127\.|ipv6:\[::1\]")

_OPTIONS: Mapping[str, str | int] = {
    # The server limits requests; a request bounds the size of its responses.
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    # Calls go to all addresses of the target in turn; the session stream goes to one that answers.
    "grpc.service_config": json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}),
    "grpc.http2.max_pings_without_data": 0,
    # The multiplexer spaces its retries itself, so the channel need not wait longer.
    "grpc.initial_reconnect_backoff_ms": 50,
    "grpc.max_reconnect_backoff_ms": 1_000,
    # Despite its name this limits the duration of one attempt, handshakes included.
    "grpc.min_reconnect_backoff_ms": 5_000,
}


@dataclass(frozen=True)
class Tls:
    """Certificates: the authorities that the client trusts, and its own.

    Attributes:
        ca: PEM file of the trusted authorities; None: the system's.
        certificate: PEM file of this client's certificate chain, for mutual TLS.
        key: PEM file of its private key.
        server_name: name expected in the server's certificate; None: the target's.
    """

    ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        check_path("ca", self.ca)
        check_path("certificate", self.certificate)
        check_path("key", self.key)
        if self.server_name is not None:
            check_text("server_name", self.server_name)


@dataclass(frozen=True)
class Endpoint:
    """The target of a channel, with its options and the metadata of its calls.

    Attributes:
        target: in gRPC's form: HOST:PORT, dns:///NAME:PORT, ipv4:HOST:PORT,HOST:PORT.
        credentials: credentials of the channel; None: no encryption.
        options: options of the channel.
        metadata: metadata of every call.
        route: how the channel reaches the server.
    """

    target: str
    credentials: grpc.ChannelCredentials | None
    options: tuple[tuple[str, str | int], ...]
    metadata: Metadata
    route: Route = _PLAIN

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
        """Checks and translates the options of a client.

        Raises:
            InvalidInput: an option has a wrong type or is malformed.
            OSError: a file of `tls` cannot be read.
        """
        check_seconds("keepalive_s", keepalive_s)
        _check_target(target)
        if not (tls is None or isinstance(tls, bool | Tls)):
            raise wrong("tls", "True, a Tls or None", tls)
        if channel_options is not None:
            check_channel_options(channel_options)
        if token is not None:
            check_text("token", token)
        if token is not None and not re.fullmatch("[!-~]([ -~]*[!-~])?", token):
            raise InvalidInput(
                "token: expected printable ASCII characters, no white space at its ends; got others: "
                "was it read with a line break?"
            )
        loopback = {"grpc.enable_http_proxy": 0} if _LOOPBACK.match(target) else {}
        files = Tls() if tls is True else tls or None
        answer_ms = math.ceil(1000 * min(keepalive_s, _PING_ANSWER_S))
        options = {
            **_OPTIONS,
            **loopback,
            # The first bounds the wait for TCP to acknowledge, the last the wait for the answer to a ping.
            "grpc.keepalive_timeout_ms": answer_ms,
            "grpc.keepalive_time_ms": math.ceil(1000 * keepalive_s),
            "grpc.http2.ping_timeout_ms": answer_ms,
        }
        if files is not None and files.server_name is not None:
            options["grpc.ssl_target_name_override"] = files.server_name
        options |= channel_options or {}
        proxies = bool(options.get("grpc.enable_http_proxy", 1))
        route = Route.of(target, tls=files is not None, proxies=proxies)
        if route.proxy:
            _LOG.info("%s is reached through the proxy %s, named in %s", target, route.proxy, route.variable)
        return cls(
            target,
            None if files is None else _credentials(files),
            tuple(options.items()),
            () if token is None else (("authorization", f"Bearer {token}"),),
            route,
        )

    def status_of(self, error: grpc.RpcError) -> Status:
        """Translates an error of gRPC."""
        return self.route.explain(_status_of(error))


def _check_target(target: object) -> None:
    """Raises InvalidInput for a target that gRPC would misread, or reject only at the first call."""
    if not isinstance(target, str):
        raise wrong("target", "HOST:PORT, or dns:///NAME:PORT", target)
    if re.match("(unix|unix-abstract|vsock|xds|passthrough):", target):
        return
    addresses = re.sub("^(dns:(//[^/]*/)?|ipv4:|ipv6:)", "", target).split(",")
    ports = [re.fullmatch(r"(?:[^:/\s]+|\[[^\]]+\]):(\d+)", address) for address in addresses]
    if not all(port is not None and 1 <= int(port[1]) <= 65_535 for port in ports):
        raise InvalidInput(
            f"target: expected HOST:PORT, or dns:///NAME:PORT, with a port of 1 to 65535; got {target!r}"
        )


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    def read(path: Path | str | None) -> bytes | None:
        return None if path is None else Path(path).read_bytes()

    return grpc.ssl_channel_credentials(read(tls.ca), read(tls.key), read(tls.certificate))


STREAMING = frozenset({"Predict", "Generate", "WatchStats"})
"""Methods with several responses to one request."""


def methods(channel: Any) -> dict[str, Callable[..., Any]]:
    """Makes the calls with one request, by method, on a blocking or asynchronous channel."""
    sequences = sequence_pb2_grpc.SequenceServiceStub(channel)
    models = model_pb2_grpc.ModelServiceStub(channel)
    admin = admin_pb2_grpc.AdminServiceStub(channel)
    return {
        "ListModels": models.ListModels,
        "GetModel": models.GetModel,
        "GetServer": admin.GetServer,
        "ListSessions": admin.ListSessions,
        "GetSession": admin.GetSession,
        "GetStates": admin.GetStates,
        # The client passes encoded requests.
        "Predict": channel.unary_stream(
            "/statewise.v1.SequenceService/Predict",
            response_deserializer=sequence_pb2.PredictResponse.FromString,
        ),
        "Generate": sequences.Generate,
        "WatchStats": admin.WatchStats,
    }


def session_stream(channel: Any) -> Any:
    """Makes the session stream's call on a blocking or asynchronous channel; requests are passed encoded."""
    return channel.stream_stream(
        "/statewise.v1.SequenceService/SessionStream",
        response_deserializer=sequence_pb2.SessionStreamResponse.FromString,
    )


def with_span(metadata: Metadata, method: str, tracing: Tracing | None) -> AbstractContextManager[Metadata]:
    """Wraps a call in a span, if there is tracing; gives the call's metadata, with the span's context."""
    return nullcontext(metadata) if tracing is None else tracing.call(method, metadata)


def _status_of(error: grpc.RpcError) -> Status:
    try:
        rich = rpc_status.from_call(error)
    except (ValueError, AttributeError):
        rich = None
    if rich is not None:
        return status_of_rpc(rich)
    return Status(error.code().name, message=error.details() or "")


ENDED = Status("UNAVAILABLE", message="the server ended the stream")
LOST = Status("UNAVAILABLE", message="the stream broke while a message was sent")
