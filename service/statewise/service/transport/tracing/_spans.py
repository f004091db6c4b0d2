"""Begins and ends the spans of requests: of calls, and of every request on a session stream.

The gate comes first, so a refused call leaves no span. Not imported while tracing is off.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.context import attach, detach
from opentelemetry.trace import Span, StatusCode, set_span_in_context

from statewise.service.tracing import Tracing
from statewise.service.transport.calls import Call, Method
from statewise.v1 import sequence_pb2

_TRACED = "statewise.v1.SequenceService"


def traced(method: Method, tracing: Tracing) -> Method:
    """Returns a method whose requests have spans; methods of other services stay as they are."""
    if method.service != _TRACED:
        return method
    behaviour = _traced_stream if method.decode is None else _traced_call
    return replace(method, behaviour=behaviour(method, tracing))


def _traced_call(method: Method, tracing: Tracing) -> Callable[..., Awaitable[Any]]:
    async def serve(request: Any, call: Call) -> Any:
        span = tracing.begin(method.name, _carrier(call), request)
        token = attach(set_span_in_context(span))
        try:
            reply = await method.behaviour(request, call)
            span.set_attribute("statewise.row_errors", len(getattr(reply, "errors", ())))
            return reply
        except asyncio.CancelledError:
            span.set_status(StatusCode.ERROR, "cancelled")
            raise
        except Exception as error:
            span.set_status(StatusCode.ERROR, str(error))
            raise
        finally:
            detach(token)
            span.end()

    return serve


def _traced_stream(method: Method, tracing: Tracing) -> Callable[..., Awaitable[Any]]:
    async def serve(call: Call) -> Any:
        stream = _TracedStream(call, tracing)
        try:
            return await method.behaviour(stream)
        finally:
            stream.end_all()

    return serve


class _TracedStream(Call):
    """A stream that begins a span with every request read and ends it with the last reply."""

    def __init__(self, call: Call, tracing: Tracing) -> None:
        self._call = call
        self._tracing = tracing
        self._spans: dict[int, Span] = {}

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return self._call.metadata

    def peer(self) -> str:
        return self._call.peer()

    def certificate_names(self) -> list[str]:
        return self._call.certificate_names()

    def remaining_s(self) -> float | None:
        return self._call.remaining_s()

    def on_end(self, ended: Callable[[], None]) -> None:
        self._call.on_end(ended)

    def read(self, received: Callable[[bytes | None], None]) -> None:
        """Reads the next request; until the one after it, its span is the current one of the stream."""

        def begin_span(raw: bytes | None) -> None:
            if raw is not None:
                self._begin_span(raw)
            received(raw)

        self._call.read(begin_span)

    def send(self, message: bytes, sent: Callable[[], None]) -> None:
        """Sends a reply; the last reply to a request ends its span."""
        self._end_span(sequence_pb2.SessionStreamResponse.FromString(message))
        self._call.send(message, sent)

    def _begin_span(self, raw: bytes) -> None:
        try:
            request = sequence_pb2.SessionStreamRequest.FromString(raw)
        except DecodeError:
            return  # The stream refuses it.
        if request.request_id in self._spans:
            return
        operation = request.WhichOneof("operation") or "nothing"
        content = getattr(request, operation, None)
        span = self._tracing.begin(operation, {"traceparent": request.traceparent}, content)
        span.set_attribute("statewise.request_id", request.request_id)
        self._spans[request.request_id] = span
        attach(set_span_in_context(span))

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

    def end_all(self) -> None:
        """Ends the spans of unanswered requests."""
        for span in self._spans.values():
            span.set_status(StatusCode.ERROR, "the stream ended")
            span.end()
        self._spans.clear()


def _carrier(call: Call) -> Mapping[str, str]:
    return {key: value for key, value in call.metadata if isinstance(value, str)}
