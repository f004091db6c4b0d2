"""Collects the spans of a real server with OpenTelemetry's exporter for tests."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from opentelemetry.context import Context
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode
from tests.helpers.caller import connect

from statewise.service import Settings, SettingsError
from statewise.service.server import Server
from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import pack_uint32, pack_uint64, to_tensor

X = np.ones((1, 3), np.float32)
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Spans:
    """The recorded spans, by name."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()

    def __call__(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (found,) = self(name)
        return found


@asynccontextmanager
async def traced(
    repository: Path, spans: Spans, *processors: SpanProcessor, **options: Any
) -> AsyncIterator[str]:
    """A real server that records spans."""
    provider = TracerProvider(**options)
    for processor in processors:
        provider.add_span_processor(processor)
    provider.add_span_processor(SimpleSpanProcessor(spans.exporter))
    settings = Settings(repository=repository, listen="127.0.0.1:0", grace_s=5.0)
    server = Server(settings, tracer_provider=provider)
    try:
        yield await server.start()
    finally:
        await server.stop()
        provider.shutdown()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def linked(span: ReadableSpan) -> set[int]:
    return {link.context.span_id for link in span.links}


async def test_steps_that_share_a_run_are_linked_to_it_and_it_to_them(repository: Path) -> None:
    spans = Spans()
    async with traced(repository, spans) as address, connect(address) as caller:
        a, b = await caller.open("steps", "a", "b")
        # Both steps reach the server before it answers, because they come in one read of the connection.
        numbers = [await caller.send(step=caller.frame([(handle, 0)], X)) for handle in (a, b)]
        assert {(await caller.receive()).request_id for _ in numbers} == set(numbers)
        await caller.ask(close=pb.CloseSessionsRequest(handles=pack_uint64([a, b])))
    opened = spans.one("statewise.open")
    assert opened.kind is SpanKind.SERVER
    assert attributes(opened) == {
        "statewise.model": "steps",
        "statewise.session_ids": ("a", "b"),
        "statewise.request_id": 1,
        "statewise.row_errors": 0,
    }
    steps = spans("statewise.step")
    assert [attributes(span)["statewise.session_ids"] for span in steps] == [("a",), ("b",)]
    assert {
        (attributes(span)["statewise.model"], attributes(span)["statewise.version"]) for span in steps
    } == {("steps", 2)}
    assert [attributes(span)["statewise.request_id"] for span in steps] == numbers
    runs = {run.context.span_id: run for run in spans("statewise.run")}
    for step in steps:
        (number,) = linked(step)
        run = runs[number]
        assert step.context.span_id in linked(run)
        assert attributes(run)["statewise.rows"] == len(linked(run))
        assert attributes(run)["statewise.lane"] == "single"
        assert run.end_time is not None
        assert (step.start_time or 0) <= run.end_time <= (step.end_time or 0)
    assert sum(attributes(run)["statewise.rows"] for run in runs.values()) == 2


async def test_a_message_and_a_call_join_the_trace_of_their_caller(repository: Path) -> None:
    spans = Spans()
    async with traced(repository, spans) as address, connect(address) as caller:
        (handle,) = await caller.open("steps", "a")
        frame = caller.frame([(handle, 0)], np.ones((5, 3), np.float32), steps=[5])
        await caller.stream.write(pb.SessionStreamRequest(request_id=99, step=frame, traceparent=TRACEPARENT))
        await caller.receive()
        request = pb.PredictRequest(
            model="steps", lengths=pack_uint32([2]), inputs={"x": to_tensor(np.ones((2, 3), np.float32))}
        )
        call = caller.sequences.Predict(request, metadata=(("traceparent", TRACEPARENT),))
        assert [part async for part in call]
        await caller.stream.write(
            pb.SessionStreamRequest(request_id=100, cancel=pb.CancelRequest(), traceparent="nonsense")
        )
        await caller.receive()
    for name in ("statewise.step", "statewise.Predict"):
        span = spans.one(name)
        assert f"{span.context.trace_id:032x}" == TRACE
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == PARENT
        (number,) = linked(span)
        (run,) = (run for run in spans("statewise.run") if run.context.span_id == number)
        assert attributes(run)["statewise.lane"] == "long"
        assert run.parent is not None
        assert (run.context.trace_id, run.parent.span_id) == (span.context.trace_id, span.context.span_id)
    assert spans.one("statewise.cancel").parent is None


async def test_a_failure_is_the_status_of_its_span(repository: Path) -> None:
    spans = Spans()
    async with traced(repository, spans) as address, connect(address) as caller:
        (handle,) = await caller.open("steps", "a")
        await caller.ask(step=caller.frame([(handle, 0), (handle, 0)], np.ones((2, 3), np.float32)))
        await caller.ask(step=caller.frame([(handle, 5)], X))
        with pytest.raises(grpc.aio.AioRpcError):
            [part async for part in caller.sequences.Predict(pb.PredictRequest(model="nobody"))]
    refused, uneven = spans("statewise.step")
    assert refused.status.status_code is StatusCode.ERROR
    assert "a handle stands twice" in str(refused.status.description)
    assert uneven.status.status_code is StatusCode.UNSET
    assert attributes(uneven)["statewise.row_errors"] == 1
    predict = spans.one("statewise.Predict")
    assert predict.status.status_code is StatusCode.ERROR
    assert "nobody" in str(predict.status.description)


async def test_what_the_caller_decided_not_to_trace_is_not(repository: Path) -> None:
    spans = Spans()
    sampled = {"sampler": ParentBased(ALWAYS_OFF)}
    async with traced(repository, spans, **sampled) as address, connect(address) as caller:
        (handle,) = await caller.open("steps", "a")
        for number, flag in ((98, "00"), (99, "01")):
            await caller.stream.write(
                pb.SessionStreamRequest(
                    request_id=number,
                    step=caller.frame([(handle, number - 98)], X),
                    traceparent=f"00-{TRACE}-{PARENT}-{flag}",
                )
            )
            await caller.receive()
    assert attributes(spans.one("statewise.step"))["statewise.request_id"] == 99
    assert len(spans("statewise.run")) == 1


class StepBegins(SpanProcessor):
    """Sets an event when the span of a step begins."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if span.name == "statewise.step":
            self.event.set()


async def test_a_stream_that_ends_leaves_no_span_open(repository: Path) -> None:
    spans, step = Spans(), StepBegins()
    async with traced(repository, spans, step) as address, connect(address) as caller:
        (handle,) = await caller.open("steps", "a")
        x = np.ones((300_000, 3), np.float32)
        await caller.send(step=caller.frame([(handle, 0)], x, steps=[len(x)]))
        await step.event.wait()
        caller.stream.cancel()
    assert spans.one("statewise.step").status.description == "the stream ended"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Receives the spans that exporters send."""

    def __init__(self) -> None:
        self.received: list[ResourceSpans] = []

    def Export(  # noqa: N802 - named as in the .proto file
        self, request: trace_service_pb2.ExportTraceServiceRequest, _: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self.received += request.resource_spans
        return trace_service_pb2.ExportTraceServiceResponse()


async def test_spans_reach_a_collector_by_the_time_the_server_has_stopped(repository: Path) -> None:
    collector = Collector()
    with ThreadPoolExecutor(2) as threads:
        listening = grpc.server(threads)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, listening)  # type: ignore[no-untyped-call]
        endpoint = f"http://127.0.0.1:{listening.add_insecure_port('127.0.0.1:0')}"
        listening.start()
        async with (
            running_server(repository, traces_endpoint=endpoint) as address,
            connect(address) as caller,
        ):
            await caller.open("steps", "a")
        listening.stop(None).wait()
    (resource,) = collector.received
    described = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert described["service.name"] == "statewise"
    assert [span.name for span in resource.scope_spans[0].spans] == ["statewise.open"]


def test_without_traces_opentelemetry_is_not_imported(repository: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from statewise.service import Server, Settings\n"
        "async def main():\n"
        "    server = Server(Settings(repository=Path(sys.argv[1]), listen='127.0.0.1:0'))\n"
        "    await server.start()\n"
        "    await server.stop()\n"
        "asyncio.run(main())\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(repository)]).returncode == 0


def test_the_endpoint_is_a_url(repository: Path) -> None:
    with pytest.raises(SettingsError, match=r"traces_endpoint = 'collector:4317': .*expected http://HOST"):
        Settings.load(repository=repository, traces_endpoint="collector:4317")
