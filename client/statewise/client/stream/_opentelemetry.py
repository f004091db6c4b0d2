"""Makes spans of a client's calls and messages with OpenTelemetry.

No other module imports OpenTelemetry, and this one is imported only if a client is given a tracer provider.
The span of a message belongs to the caller's trace; a message for several callers belongs to the first one's
and is linked to the others. The server's spans join through W3C's traceparent.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import Context, get_current
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from statewise.client.stream._protocols import InFlightRequest, Metadata
from statewise.client.values import Failed
from statewise.v1 import sequence_pb2

_W3C = TraceContextTextMapPropagator()


class OpenTelemetryTracing:
    """Makes the spans of one client.

    Args:
        provider: takes the spans.
    """

    def __init__(self, provider: Any) -> None:
        self._tracer = provider.get_tracer("statewise.client")
        self._messages: dict[int, Span] = {}

    def origin(self) -> Span | None:
        """Returns the caller's span, if it has one."""
        span = get_current_span()
        return span if span.get_span_context().is_valid else None

    @contextmanager
    def call(self, method: str, metadata: Metadata) -> Iterator[Metadata]:
        """Makes a span of a call, open as long as the context; gives the metadata the call carries."""
        span = self._tracer.start_span(f"statewise.{method}", context=get_current(), kind=SpanKind.CLIENT)
        try:
            yield (*metadata, *_carried(span).items())
        except Exception as error:
            details = getattr(error, "details", None)  # the message of gRPC's errors
            span.set_status(StatusCode.ERROR, str(details() if callable(details) else error))
            raise
        finally:
            span.end()

    # For messages of the session stream.

    def sent(self, request_id: int, request: InFlightRequest) -> bytes:
        """Begins the span of a message; returns the bytes that are appended to the message."""
        operation, origins = request.traced()
        parents = list(dict.fromkeys(span for span in origins if span is not None))
        span = self._tracer.start_span(
            f"statewise.{operation}",
            context=set_span_in_context(parents[0], Context()) if parents else Context(),
            kind=SpanKind.CLIENT,
            links=[Link(other.get_span_context()) for other in parents[1:]],
            attributes={"statewise.request_id": request_id},
        )
        self._messages[request_id] = span
        carried = sequence_pb2.SessionStreamRequest(traceparent=_carried(span).get("traceparent", ""))
        return carried.SerializeToString()

    def answered(self, response: sequence_pb2.SessionStreamResponse, *, last: bool) -> None:
        """Ends the span of a message if this is its last reply."""
        span = self._messages.get(response.request_id)
        if span is None or not last:
            return
        del self._messages[response.request_id]
        if response.HasField("error"):
            span.set_status(StatusCode.ERROR, response.error.message)
        span.end()

    def lost(self, request_ids: Iterable[int], failed: Failed) -> None:
        """Ends the spans of messages that get no reply."""
        for request_id in request_ids:
            span = self._messages.pop(request_id, None)
            if span is not None:
                span.set_status(StatusCode.ERROR, failed.status.message)
                span.end()


def _carried(span: Span) -> dict[str, str]:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, set_span_in_context(span, Context()))
    return carrier
