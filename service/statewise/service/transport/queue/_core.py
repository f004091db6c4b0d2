"""Gives types to the part of grpcio that its threaded server is written with, and checks that it is there.

The only module that imports `cygrpc` for this transport: what is used here is private to grpcio.
docs/design.md says why it is used, and CI runs the tests with the oldest and the newest grpcio that
pyproject.toml admits.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import grpc
from grpc._cython import cygrpc

_NO_FLAGS = 0
_USED = {
    "BatchOperationEvent": ("batch_operations", "completion_type", "success", "tag"),
    "Call": ("cancel", "peer", "start_server_batch"),
    "CallDetails": ("deadline", "method"),
    "CompletionQueue": ("poll", "shutdown"),
    "Server": (
        "add_http2_port",
        "cancel_all_calls",
        "destroy",
        "register_completion_queue",
        "request_call",
        "shutdown",
        "start",
    ),
    "CompletionType": ("queue_shutdown", "queue_timeout"),
    "RequestCallEvent": ("call", "call_details", "completion_type", "invocation_metadata", "success", "tag"),
    "ReceiveCloseOnServerOperation": ("cancelled",),
    "ReceiveMessageOperation": ("message",),
    "SendInitialMetadataOperation": (),
    "SendMessageOperation": (),
    "SendStatusFromServerOperation": (),
    "auth_context": (),
}


class Operation(Protocol):
    """One operation of a batch, with its result after the batch."""

    def message(self) -> bytes | None: ...
    def cancelled(self) -> bool: ...


class CallDetails(Protocol):
    """What a client asks for."""

    method: bytes
    deadline: float


class CoreCall(Protocol):
    """A call of gRPC's core. Its operations may be started from any thread."""

    def start_server_batch(self, operations: tuple[Any, ...], tag: Any) -> int: ...
    def cancel(self) -> None: ...
    def peer(self) -> bytes | str: ...


class Event(Protocol):
    """An operation that has ended, or a call that has begun."""

    completion_type: int
    tag: Callable[["Event"], None]
    success: bool
    batch_operations: Sequence[Operation]
    call: CoreCall
    call_details: CallDetails
    invocation_metadata: Sequence[tuple[str, str | bytes]]


class CompletionQueue(Protocol):
    """Gives events in the order in which they happened."""

    def poll(self, deadline: float) -> Event: ...
    def shutdown(self) -> None: ...


class CoreServer(Protocol):
    """A server of gRPC's core."""

    def register_completion_queue(self, queue: CompletionQueue) -> None: ...
    def add_http2_port(self, address: bytes, credentials: Any = None) -> int: ...
    def start(self) -> None: ...
    def request_call(self, calls: CompletionQueue, events: CompletionQueue, tag: Any) -> int: ...
    def shutdown(self, queue: CompletionQueue, tag: Any) -> None: ...
    def cancel_all_calls(self) -> None: ...
    def destroy(self) -> None: ...


TIMEOUT = getattr(getattr(cygrpc, "CompletionType", None), "queue_timeout", None)
"""The type of the event that `poll` returns at its deadline."""
SHUTDOWN = getattr(getattr(cygrpc, "CompletionType", None), "queue_shutdown", None)
"""The type of the last event of a queue."""


def missing() -> list[str]:
    """Returns what this grpcio does not have; empty: the transport can be used."""
    return [
        ".".join(filter(None, (name, attribute)))
        for name, attributes in _USED.items()
        for attribute in ("", *attributes)
        if not hasattr(getattr(cygrpc, name, None), attribute or "__class__")
        or getattr(cygrpc, name, None) is None
    ]


def make_queue() -> CompletionQueue:
    """Returns a completion queue."""
    return cast("CompletionQueue", cygrpc.CompletionQueue())


def make_server(queue: CompletionQueue, options: Sequence[tuple[str, int]]) -> CoreServer:
    """Returns a server whose calls may use the queue."""
    arguments = tuple((name.encode(), value) for name, value in options)
    server = cast("CoreServer", cygrpc.Server(arguments, False))
    server.register_completion_queue(queue)
    return server


def open_port(server: CoreServer, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """Opens a port. Returns its number. Raises RuntimeError where gRPC cannot open it."""
    if credentials is None:
        port = server.add_http2_port(address.encode())
    else:
        port = server.add_http2_port(address.encode(), credentials._credentials)  # type: ignore[attr-defined]
    if not port:
        raise RuntimeError(f"gRPC cannot listen on {address}")
    return port


def auth_context(call: CoreCall) -> Mapping[str, Sequence[bytes]]:
    """Returns what gRPC knows of the client of a call."""
    return {key.decode(): values for key, values in cygrpc.auth_context(call).items()}


def start(call: CoreCall, operations: tuple[Any, ...], ended: Callable[[Event], None]) -> None:
    """Starts a batch of operations.

    Args:
        call: The call.
        operations: Of the batch; empty: the batch ends at once.
        ended: Gets the event of the batch's end.

    Raises:
        RuntimeError: gRPC has not taken the batch; no event follows.
    """
    failure = call.start_server_batch(operations, ended)
    if failure:
        raise RuntimeError(f"gRPC refuses operations of a call with error {failure}")


def receive_close() -> Any:
    """The operation that ends when the call is over."""
    return cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS)


def receive_message() -> Any:
    """The operation that ends with the next message."""
    return cygrpc.ReceiveMessageOperation(_NO_FLAGS)


def send_initial_metadata() -> Any:
    """The operation that begins the response."""
    return cygrpc.SendInitialMetadataOperation((), _NO_FLAGS)


def send_message(message: bytes) -> Any:
    """The operation that sends a message."""
    return cygrpc.SendMessageOperation(message, _NO_FLAGS)


def send_status(code: int, message: str, metadata: Sequence[tuple[str, bytes]]) -> Any:
    """The operation that ends the call."""
    return cygrpc.SendStatusFromServerOperation(tuple(metadata), code, message.encode(), _NO_FLAGS)
