"""Spans of requests and of the runs that answer them, by OpenTelemetry.

The only module that knows it, imported where traces are wanted. A request is one span, in the trace that its
caller named; a run is one span in the trace of a request that it answers, linked to all of them and they to
it. A trace names sessions and sizes, never inputs, outputs, states or credentials.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanKind, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from statewise.service.base import ModelKey, StepBatch
from statewise.service.session_state import SessionTable

_W3C = TraceContextTextMapPropagator()
_SESSIONS_NAMED = 3
_EXPORT_S = 2.0  # The server's end waits for the last export, also where no collector answers.


def export_to(endpoint: str, *, ratio: float, release: str) -> TracerProvider:
    """Sends spans to a collector, from a thread of its own.

    Args:
        endpoint: http://HOST:PORT of a collector that takes OTLP over gRPC, or https://.
        ratio: Share of requests that are traced, of those whose callers have not decided.
        release: Of statewise.
    """
    resource = Resource.create({SERVICE_NAME: "statewise", SERVICE_VERSION: release})
    provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(ratio)))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_S)))
    return provider


class Tracing:
    """Makes the spans of one server.

    Args:
        provider: Takes them.
        table: Knows the names of sessions.
        model_of: Name and version by the number that the table knows.
        clock: The scheduler's, in seconds.
    """

    def __init__(
        self,
        provider: Any,
        table: SessionTable,
        *,
        model_of: Callable[[int], ModelKey],
        clock: Callable[[], float],
    ) -> None:
        self._tracer = provider.get_tracer("statewise.service")
        self._table = table
        self._model_of = model_of
        self._clock = clock

    # --- requests ---

    def begin(self, operation: str, carrier: Mapping[str, str], request: Any) -> Span:
        """Begins the span of a request, in the trace that its carrier names (`traceparent`), or a new one."""
        span: Span = self._tracer.start_span(
            f"statewise.{operation}", context=_W3C.extract(carrier, Context()), kind=SpanKind.SERVER
        )
        if span.is_recording():
            if model := getattr(request, "model", ""):
                span.set_attribute("statewise.model", model)
            if names := list(getattr(request, "session_ids", ()))[:_SESSIONS_NAMED]:
                span.set_attribute("statewise.session_ids", names)
        return span

    def describe(self, frame: StepBatch) -> Span:
        """The span of the request that a frame is, told what the frame holds."""
        span = get_current_span()
        if span.is_recording():
            number = self._table.model_of_handle(int(frame.handles[0]), owner=frame.owner)
            if number is not None:
                self._name_model(span, number)
            names = self._table.names_of(frame.handles[:_SESSIONS_NAMED], owner=frame.owner)
            span.set_attributes(
                {
                    "statewise.rows": len(frame.handles),
                    "statewise.steps": frame.time_steps,
                    "statewise.session_ids": names,
                }
            )
        return span

    def current(self) -> Span:
        """The span of the request that is being taken."""
        return get_current_span()

    # --- runs ---

    def ran(self, lane: str, requests: Sequence[Any], *, rows: int, begun_s: float) -> None:
        """Tells of a run that has just ended and the requests whose rows it took, as spans."""
        traced = [span for span in requests if isinstance(span, Span) and span.is_recording()]
        if not traced:
            return
        ended_ns = time.time_ns()
        run = self._tracer.start_span(
            "statewise.run",
            context=set_span_in_context(traced[0], Context()),
            links=[Link(span.get_span_context()) for span in traced],
            attributes={"statewise.lane": lane, "statewise.rows": rows, "statewise.requests": len(requests)},
            start_time=ended_ns - int((self._clock() - begun_s) * 1e9),
        )
        for span in traced:
            span.add_link(run.get_span_context())
        run.end(ended_ns)

    def _name_model(self, span: Span, number: int) -> None:
        name, version = self._model_of(number)
        span.set_attributes({"statewise.model": name, "statewise.version": version})
