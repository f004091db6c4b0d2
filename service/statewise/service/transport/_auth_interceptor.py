"""Authenticates every call and checks its scopes, before its request is decoded.

One table lists the scopes of every method; a method that is not in the table needs the admin scope. A stream
is checked when it begins, not at every message. Only requests of authorised callers are decoded, so no
other client can make the server parse anything.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from statewise.service.auth import ANYBODY, Callers, Identity, Scope, enter_call
from statewise.service.base import ServiceError
from statewise.service.telemetry import Statistics
from statewise.service.transport._tls import certificate_names
from statewise.service.transport.messages import Context, abort
from statewise.wire import Reason

_PREDICT = frozenset({Scope.PREDICT})
_SESSION = frozenset({Scope.SESSION})
_ADMIN = frozenset({Scope.ADMIN})
_ANY = frozenset(Scope)

SCOPES: dict[str, dict[str, frozenset[Scope]]] = {
    "statewise.v1.SequenceService": {
        "Predict": _PREDICT,
        "Generate": _PREDICT,
        **dict.fromkeys(
            (
                "SessionStream",
                "OpenSessions",
                "ResumeSessions",
                "RestoreSessions",
                "Step",
                "GenerateSessions",
                "ForkSessions",
                "RewindSessions",
                "SnapshotSessions",
                "CloseSessions",
            ),
            _SESSION,
        ),
    },
    "statewise.v1.ModelService": {
        "ListModels": _ANY,
        "GetModel": _ANY,
        "LoadModel": _ADMIN,
        "UnloadModel": _ADMIN,
    },
    "statewise.v1.AdminService": {
        "GetServer": _ANY,
        "ListSessions": _SESSION | _ADMIN,
        "GetSession": _SESSION | _ADMIN,
        "CloseSession": _SESSION | _ADMIN,
        "WatchStats": _ADMIN,
    },
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": _ANY},
}
"""Scopes by service and method; a caller needs one of them."""

_WITHOUT_CREDENTIALS = "/grpc.health.v1.Health/"
"""Probes have no credentials, and learn only whether the server serves."""

_Behaviour = Callable[[Any, Context], Awaitable[Any]]


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without valid credentials or without the scope that they need.

    Args:
        callers: Identify callers; None: every caller may do everything.
        statistics: Count refused calls.
        allowed: Called with every call that has the scope, before its request is decoded; may refuse the call
            by ServiceError.
    """

    def __init__(
        self, callers: Callers | None, statistics: Statistics, *, allowed: Callable[[Context], None]
    ) -> None:
        self._callers = callers
        self._allowed = allowed
        self._refused = statistics.refused
        self._guarded: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self, continuation: Callable[..., Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Returns the handler of a method, preceded by the checks; None: there is no such method."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(_WITHOUT_CREDENTIALS):
            return handler  # type: ignore[no-any-return]
        guarded = self._guarded.get(details.method)
        if guarded is None:
            guarded = self._guarded[details.method] = self._guard(handler, needed(details.method))
        return guarded

    def _guard(self, handler: Any, scopes: frozenset[Scope]) -> "grpc.RpcMethodHandler[Any, Any]":
        behaviour, kind = _behaviour_of(handler)
        decode = None if handler.request_streaming else handler.request_deserializer

        async def serve(request: Any, context: Context) -> Any:
            try:
                identity = self._identify(context)
                identity.check(scopes)
                self._allowed(context)
                if decode is not None:
                    request = _decoded(decode, request)
            except ServiceError as error:
                self._refused[error.reason] += 1
                await abort(context, error)
            enter_call(identity)
            return await behaviour(request, context)

        async def guarded(request: Any, context: Context) -> Any:
            serving = serve(request, context)
            del request
            try:
                return await serving
            except grpc.aio.AbortError as aborted:
                # The call keeps the exception, and the exception's traceback would keep the request: a cycle
                # whose megabytes would stay until the next garbage collection.
                aborted.__context__ = None
                raise aborted.with_traceback(None) from None

        return kind(  # type: ignore[no-any-return]
            guarded,
            request_deserializer=handler.request_deserializer if handler.request_streaming else None,
            response_serializer=handler.response_serializer,
        )

    def _identify(self, context: Context) -> Identity:
        if self._callers is None:
            return ANYBODY
        given = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
        if len(given) > 1:
            raise ServiceError(
                Reason.UNAUTHENTICATED, f"expected one authorization header; got {len(given)} of them"
            )
        return self._callers.identify(
            authorization=given[0] if given and isinstance(given[0], str) else None,
            certificate_names=certificate_names(context.auth_context()),
        )


def needed(method: str) -> frozenset[Scope]:
    """Scopes of which a caller of /SERVICE/METHOD needs one."""
    _, service, name = method.split("/")
    return SCOPES.get(service, {}).get(name, _ADMIN)


def _behaviour_of(handler: Any) -> tuple[_Behaviour, Callable[..., Any]]:
    """The coroutine function that serves a call, and the function that makes a handler of its kind."""
    if handler.request_streaming:
        behaviour, kind = handler.stream_stream, grpc.stream_stream_rpc_method_handler
    elif handler.response_streaming:
        behaviour, kind = handler.unary_stream, grpc.unary_stream_rpc_method_handler
    else:
        behaviour, kind = handler.unary_unary, grpc.unary_unary_rpc_method_handler
    if not inspect.isasyncgenfunction(behaviour):
        return behaviour, kind

    async def write_out(request: Any, context: Context) -> None:
        async for response in behaviour(request, context):
            await context.write(response)

    return write_out, kind


def _decoded(decode: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return decode(raw)
    except DecodeError as error:
        raise ServiceError(Reason.BAD_REQUEST, f"the request cannot be read: {error}") from None
