"""Traces both clients, and joins their spans with those of a real server."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode, use_span
from tests.client.clients import Clients
from tests.client.relay import Relay

from statewise.client import AsyncClient, AsyncSession, Client, ModelNotFound, Unavailable
from statewise.service import Server, Settings

X = np.ones(3, np.float32)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


def spans(exporter: InMemorySpanExporter, name: str, kind: SpanKind) -> list[Any]:
    return [span for span in exporter.get_finished_spans() if (span.name, span.kind) == (name, kind)]


def test_a_message_is_in_the_trace_of_who_asked(
    address: str, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    tracer = provider.get_tracer("test")
    with Client(address, tracer_provider=provider) as client, client.session("steps") as session:
        with tracer.start_as_current_span("mine") as mine:
            session.step(X)
        session.step(X)
        with tracer.start_as_current_span("mine, too") as other:
            client.predict("steps", X[None])
    inside, outside = spans(exporter, "statewise.step", SpanKind.CLIENT)
    assert inside.parent.span_id == mine.get_span_context().span_id
    assert inside.context.trace_id == mine.get_span_context().trace_id
    assert outside.parent is None
    (call,) = spans(exporter, "statewise.Predict", SpanKind.CLIENT)
    assert call.parent.span_id == other.get_span_context().span_id
    assert len(spans(exporter, "statewise.close", SpanKind.CLIENT)) == 1


def test_a_group_is_in_the_trace_of_who_asked(
    address: str, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    with (
        Client(address, tracer_provider=provider) as client,
        client.sessions("steps", count=3) as group,
        provider.get_tracer("test").start_as_current_span("mine") as mine,
    ):
        group.step(np.ones((3, 3), np.float32))
    (step,) = spans(exporter, "statewise.step", SpanKind.CLIENT)
    assert step.parent.span_id == mine.get_span_context().span_id


def test_both_clients_make_the_same_spans(
    clients: Clients, address: str, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    client = clients.connect(address, tracer_provider=provider)
    with client.session("steps") as session:
        session.step(X)
    client.predict("last", X[None])
    with pytest.raises(ModelNotFound):
        client.predict("nobody", X[None])
    names = {span.name for span in exporter.get_finished_spans() if span.kind is SpanKind.CLIENT}
    assert names == {
        "statewise.GetModel",
        "statewise.GetServer",
        "statewise.open",
        "statewise.step",
        "statewise.close",
        "statewise.Predict",
    }
    failed = [span for span in exporter.get_finished_spans() if span.status.status_code is StatusCode.ERROR]
    assert [span.name for span in failed] == ["statewise.GetModel"]
    assert "nobody" in (failed[0].status.description or "")


async def test_steps_of_several_tasks_in_one_message_are_linked(
    repository: Path, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """The server's spans for the message are in the same trace."""
    server = Server(Settings(repository=repository, listen="127.0.0.1:0"), tracer_provider=provider)
    tracer = provider.get_tracer("test")
    callers = [tracer.start_span(f"task {number}") for number in range(3)]
    async with AsyncClient(await server.start(), tracer_provider=provider) as client:
        sessions = [await client.session("steps") for _ in callers]

        async def step(caller: Span, session: AsyncSession) -> None:
            with use_span(caller):
                await session.step(X)

        await asyncio.gather(*map(step, callers, sessions))
    await server.stop()
    sent = spans(exporter, "statewise.step", SpanKind.CLIENT)
    asked = {caller.get_span_context().span_id for caller in callers}
    found = {span.parent.span_id for span in sent} | {
        link.context.span_id for span in sent for link in span.links
    }
    assert found == asked
    assert len(sent) < 3, "no steps left together"
    served = {span.parent.span_id: span for span in spans(exporter, "statewise.step", SpanKind.SERVER)}
    for span in sent:
        assert served[span.context.span_id].context.trace_id == span.context.trace_id


class StartSignal(SpanProcessor):
    """Signals when a span has begun."""

    def __init__(self) -> None:
        self._begun = threading.Event()
        self.wait = self._begun.wait

    def on_start(self, span: object, parent_context: object = None) -> None:
        self._begun.set()


def test_a_message_that_gets_no_answer_ends_its_span(
    relay: Relay, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    with Client(relay.address, tracer_provider=provider) as client, client.session("steps") as session:
        session.step(X)
        relay.hold_replies()
        sending = StartSignal()
        provider.add_span_processor(sending)
        with ThreadPoolExecutor(1) as threads:
            stepping = threads.submit(session.step, X)
            sending.wait()
            relay.cut()
            stepping.result()
        assert session.position == 2
    statuses = [span.status.status_code for span in spans(exporter, "statewise.step", SpanKind.CLIENT)]
    assert statuses == [StatusCode.UNSET, StatusCode.ERROR, StatusCode.UNSET]


def test_a_server_that_is_not_there_is_the_status_of_the_call(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    with Client("127.0.0.1:1", tracer_provider=provider) as client, pytest.raises(Unavailable):
        client.models()
    for span in spans(exporter, "statewise.ListModels", SpanKind.CLIENT):
        assert span.status.status_code is StatusCode.ERROR


def test_without_a_provider_opentelemetry_is_not_imported() -> None:
    script = (
        "import sys\n"
        "from statewise.client import AsyncClient, Client\n"
        "Client('127.0.0.1:1').close()\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
