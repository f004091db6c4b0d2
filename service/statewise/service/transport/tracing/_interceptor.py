"""Begins and ends the spans of requests: of calls, and of every request on a session stream.

Runs after the auth interceptor, so a refused call leaves no span. Not imported while tracing is off.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from opentelemetry.context import attach, detach
from opentelemetry.trace import Span, StatusCode, set_span_in_context

from statewise.service.tracing import Tracing
from statewise.service.transport.messages import Context
from statewise.v1 import sequence_pb2

_TRACED = "/statewise.v1.SequenceService/"
_STREAM = f"{_TRACED}SessionStream"


class TracingInterceptor(grpc.aio.ServerInterceptor):
    """Traces the calls of the SequenceService.

    Args:
        tracing: Makes the spans.
    """

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def intercept_service(
        self, continuation: Callable[..., Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Returns the handler of a method, with spans around it."""
        handler: Any = await continuation(details)
        if handler is None or not details.method.startswith(_TRACED):
            return handler  # type: ignore[no-any-return]
        if details.method == _STREAM:
            return _like(handler, self._traced_stream(handler.stream_stream))  # type: ignore[no-any-return]
        name = details.method.removeprefix(_TRACED)
        return _like(  # type: ignore[no-any-return]
            handler, self._traced_call(name, handler.unary_stream or handler.unary_unary)
        )

    def _traced_call(self, name: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def traced(request: Any, context: Context) -> Any:
            span = self._tracing.begin(name, _carrier(context), request)
            token = attach(set_span_in_context(span))
            try:
                reply = await behaviour(request, context)
                span.set_attribute("statewise.row_errors", len(getattr(reply, "errors", ())))
                return reply
            except asyncio.CancelledError:
                span.set_status(StatusCode.ERROR, "cancelled")
                raise
            except BaseException:
                span.set_status(StatusCode.ERROR, str(context.details() or ""))
                raise
            finally:
                detach(token)
                span.end()

        return traced

    def _traced_stream(self, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def traced(requests: Any, context: Context) -> Any:
            stream = _Stream(context, self._tracing)
            try:
                return await behaviour(requests, stream)
            finally:
                stream.end()

        return traced


class _Stream:
    """A stream's context that begins a span with every request read and ends it with the last reply."""

    def __init__(self, context: Context, tracing: Tracing) -> None:
        self._context = context
        self._tracing = tracing
        self._spans: dict[int, Span] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        """Reads the next request; until the one after it, its span is the current one of the reading task."""
        request = await self._context.read()
        if isinstance(request, sequence_pb2.SessionStreamRequest) and request.request_id not in self._spans:
            operation = request.WhichOneof("operation") or "nothing"
            content = getattr(request, operation, None)
            span = self._tracing.begin(operation, {"traceparent": request.traceparent}, content)
            span.set_attribute("statewise.request_id", request.request_id)
            self._spans[request.request_id] = span
            attach(set_span_in_context(span))
        return request

    async def write(self, response: sequence_pb2.SessionStreamResponse | bytes) -> None:
        """Writes a reply; the last reply to a request ends its span."""
        if isinstance(response, bytes):
            response = sequence_pb2.SessionStreamResponse.FromString(response)
        self._end_span(response)
        await self._context.write(response)

    def _end_span(self, response: sequence_pb2.SessionStreamResponse) -> None:
        result = response.WhichOneof("result")
        if result == "generate" and not response.generate.done:
            return
        span = self._spans.pop(response.request_id, None)
        if span is None:
            return
        if result == "error":
            span.set_status(StatusCode.ERROR, response.error.message)
        elif result is not None:
            errors = getattr(getattr(response, result), "errors", ())
            span.set_attribute("statewise.row_errors", len(errors))
        span.end()

    def end(self) -> None:
        """Ends the spans of unanswered requests."""
        for span in self._spans.values():
            span.set_status(StatusCode.ERROR, "the stream ended")
            span.end()
        self._spans.clear()


def _carrier(context: Context) -> Mapping[str, str]:
    metadata = context.invocation_metadata() or ()
    return {key: value for key, value in metadata if isinstance(value, str)}


def _like(handler: Any, behaviour: Callable[..., Any]) -> Any:
    """Returns a handler of the same kind as another, with another behaviour."""
    if handler.request_streaming:
        kind = grpc.stream_stream_rpc_method_handler
    elif handler.response_streaming:
        kind = grpc.unary_stream_rpc_method_handler
    else:
        kind = grpc.unary_unary_rpc_method_handler
    return kind(
        behaviour,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
