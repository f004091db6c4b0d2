"""Makes the spans of requests, and of the runs that answer them, with OpenTelemetry.

A request is one span, in the trace that its client named. A run is one span, in the trace of one request that
it answers; the run and all its requests are linked. Spans hold ids of sessions and sizes, never inputs,
outputs, states or credentials.
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
_EXPORT_S = 2.0  # The server's stop waits for the last export, even if no collector answers.


def export_to(endpoint: str, *, ratio: float, release: str) -> TracerProvider:
    """Returns a tracer provider that sends spans to a collector, from a thread of its own.

    Args:
        endpoint: http:// or https://HOST:PORT of a collector that takes OTLP over gRPC.
        ratio: Share of requests that are traced, of those whose clients left the decision open.
        release: Of statewise.
    """
    resource = Resource.create({SERVICE_NAME: "statewise", SERVICE_VERSION: release})
    provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(ratio)))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_S)))
    return provider


class Tracing:
    """Makes the spans of one server.

    Args:
        provider: OpenTelemetry's tracer provider, which takes the spans.
        table: Holds the sessions' ids.
        model_of: Gives name and version by a model's number in the table.
        clock: Seconds, monotonic; the scheduler's.
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
        """Begins the span of a request, in the trace of the carrier's `traceparent`, or in a new trace."""
        span: Span = self._tracer.start_span(
            f"statewise.{operation}", context=_W3C.extract(carrier, Context()), kind=SpanKind.SERVER
        )
        if span.is_recording():
            if model := getattr(request, "model", ""):
                span.set_attribute("statewise.model", model)
            if names := list(getattr(request, "session_ids", ()))[:_SESSIONS_NAMED]:
                span.set_attribute("statewise.session_ids", names)
        return span

    def describe(self, batch: StepBatch) -> Span:
        """Adds a batch's model, sessions and sizes to the current span. Returns the span."""
        span = get_current_span()
        if span.is_recording():
            number = self._table.model_of_handle(int(batch.handles[0]), owner=batch.owner)
            if number is not None:
                self._name_model(span, number)
            names = self._table.names_of(batch.handles[:_SESSIONS_NAMED], owner=batch.owner)
            span.set_attributes(
                {
                    "statewise.rows": len(batch.handles),
                    "statewise.steps": batch.time_steps,
                    "statewise.session_ids": names,
                }
            )
        return span

    def current(self) -> Span:
        """Returns the span of the request that the running task handles."""
        return get_current_span()

    # --- runs ---

    def ran(self, lane: str, requests: Sequence[Any], *, rows: int, begun_s: float) -> None:
        """Makes the span of a run that has just ended, and links it with the requests' spans.

        Args:
            lane: The kind of run.
            requests: Spans of the requests whose rows ran.
            rows: Rows of the run.
            begun_s: Beginning of the run, on the clock.
        """
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
