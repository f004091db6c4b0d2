"""Reads the metrics of a real server after real work."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.helpers.caller import connect
from tests.helpers.metrics_server import http_get, serve_with_metrics

from statewise.service import Scope, Settings, add_token
from statewise.service.assembly import build_dataplane
from statewise.service.monitoring import make_registry
from statewise.v1 import model_pb2, sequence_pb2
from statewise.wire import pack_uint32, pack_uint64, to_tensor

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Metrics:
    """The series of one scrape."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._series: Series = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }
        assert len(self._series) == sum(len(family.samples) for family in self.families.values())

    def __call__(self, name: str, **labels: str) -> float:
        return self._series.get((f"statewise_{name}", frozenset(labels.items())), 0.0)


async def scrape(address: str) -> Metrics:
    """Reads the server's metrics."""
    status, text = await asyncio.to_thread(http_get, address, "/metrics")
    assert status == 200
    return Metrics(text)


STEPS = {"model": "steps", "version": "2"}


async def test_work_is_counted_by_model_operation_and_reason(
    repository: Path, random: np.random.Generator
) -> None:
    x = random.standard_normal((7, 3)).astype(np.float32)
    async with serve_with_metrics(repository) as (address, metrics), connect(address) as caller:
        a, b = await caller.open("steps", "a", "b")
        await caller.step(a, 0, x[:1])
        frame = caller.frame([(a, 1), (b, 0)], x, steps=[2, 5])
        await caller.ask(step=frame)
        await caller.ask(step=frame)  # a retry of both rows
        reply = await caller.ask(step=caller.frame([(a, 3), (b, 9)], x[:2]))
        assert [error.reason for error in reply.errors] == ["POSITION_MISMATCH"]
        refused = await caller.ask(step=caller.frame([(a, 4), (a, 4)], x[:2]))
        assert refused.code == 3
        await caller.ask(resume=sequence_pb2.ResumeSessionsRequest(session_ids=["a", "nobody"]))
        predict = sequence_pb2.PredictRequest(
            model="steps",
            version=1,
            lengths=pack_uint32([3, 4]),
            inputs={"x": to_tensor(np.concatenate([x[:3], np.full((4, 3), np.nan, np.float32)]))},
        )
        assert [part async for part in caller.sequences.Predict(predict)]
        with pytest.raises(grpc.aio.AioRpcError):
            [part async for part in caller.sequences.Predict(sequence_pb2.PredictRequest(model="nobody"))]
        told = await scrape(metrics)

    step = {**STEPS, "operation": "step"}
    assert told("steps_total", **step) == 1 + 7 + 7 + 1
    assert told("rows_total", **step) == 1 + 2 + 2 + 1
    assert told("row_errors_total", **step, reason="POSITION_MISMATCH") == 1
    assert told("retried_rows_total", **STEPS) == 2
    assert told("request_seconds_count", **step) == 4
    assert told("requests_total", operation="step", reason="OK") == 4
    assert told("requests_total", operation="step", reason="BAD_REQUEST") == 1
    predicted = {"model": "steps", "version": "1", "operation": "predict"}
    assert (told("steps_total", **predicted), told("rows_total", **predicted)) == (3, 1)
    assert told("row_errors_total", **predicted, reason="BAD_TENSOR") == 1
    assert told("request_seconds_count", **predicted) == 1
    assert told("requests_total", operation="predict", reason="MODEL_NOT_FOUND") == 1
    nameless = {"model": "", "version": ""}
    assert told("row_errors_total", **nameless, operation="resume", reason="SESSION_NOT_FOUND") == 1
    single, long = {**STEPS, "lane": "single"}, {**STEPS, "lane": "long"}
    assert (told("batch_rows_count", **single), told("batch_rows_sum", **single)) == (1, 1)
    assert told("batch_rows_bucket", **single, le="1") == 1
    assert told("batch_rows_count", **long) == told("batch_seconds_count", **long) >= 2
    assert told("queue_seconds_count", **single) == 1
    assert told("queue_seconds_count", **long) == 3
    assert told("queued_steps", **STEPS) == 0


async def test_sessions_are_counted_by_how_they_came_and_went(repository: Path) -> None:
    async with serve_with_metrics(repository) as (address, metrics), connect(address) as caller:
        handles = await caller.open("steps", "a", "b", "c")
        fork = sequence_pb2.ForkSessionsRequest(handles=pack_uint64(handles[:1]), session_ids=["d"])
        await caller.ask(fork=fork)
        told = await scrape(metrics)
        # 16 float32 numbers, twice.
        assert (told("sessions", **STEPS), told("state_bytes", **STEPS)) == (4, 4 * 128)
        assert told("streams") == 1
        await caller.ask(close=sequence_pb2.CloseSessionsRequest(handles=pack_uint64(handles[:2])))
        told = await scrape(metrics)
    assert told("sessions", **STEPS) == 2
    assert told("sessions_opened_total", origin="open") == 3
    assert told("sessions_opened_total", origin="fork") == 1
    assert told("sessions_ended_total", cause="closed") == 2
    assert told("sessions_limit") == 100_000


async def test_idle_sessions_are_counted_and_their_end_has_a_cause(repository: Path) -> None:
    now_s = 100.0
    with ThreadPoolExecutor(1) as executor:
        settings = Settings(repository=repository, load_in_child=False, idle_timeout_s=300.0)
        dataplane = build_dataplane(settings, executor=executor, clock=lambda: now_s)
        await dataplane.models.load_all()
        registry = make_registry(dataplane, release="1", is_ready=lambda: True)
        await dataplane.sessions.open("steps", 0, ["old", "young"], owner="")
        now_s += 61.0
        await dataplane.sessions.resume(["young"], owner="")
        told = Metrics(generate_latest(registry).decode())
        assert (told("sessions", **STEPS), told("sessions_idle", **STEPS)) == (2, 1)
        now_s += 280.0
        assert sum(dataplane.idle_expiry.expire()) == 1
        told = Metrics(generate_latest(registry).decode())
    assert (told("sessions", **STEPS), told("sessions_ended_total", cause="idle")) == (1, 1)


async def test_a_version_loaded_twice_is_one_series(repository: Path) -> None:
    async with serve_with_metrics(repository) as (address, metrics), connect(address) as caller:
        (handle,) = await caller.open("steps", "a")
        await caller.step(handle, 0, np.zeros((1, 3), np.float32))
        await caller.models.UnloadModel(model_pb2.UnloadModelRequest(name="steps", version=2))
        told = await scrape(metrics)
        info = {**STEPS, "exactness": "exact", "default": "false"}
        assert told("model_info", **info, status="unloading") == 1
        await caller.models.LoadModel(model_pb2.LoadModelRequest(name="steps", version=2))
        (other,) = await caller.open("steps", "b")
        await caller.step(other, 0, np.zeros((1, 3), np.float32))
        told = await scrape(metrics)
    assert told("sessions", **STEPS) == 2
    assert told("steps_total", **STEPS, operation="step") == 2
    assert told("model_info", **{**info, "default": "true"}, status="ready") == 1


async def test_what_is_exported_is_what_the_page_lists(repository: Path, tmp_path: Path) -> None:
    """Name, type and labels of every metric, after each event has happened once."""
    page = Path(__file__).parents[3] / "docs" / "operations.md"
    rows = re.findall(r"^\| `(statewise_\w+)` \| (\w+) \|([^|]*)\|", page.read_text(), re.MULTILINE)
    written = {
        (name.removesuffix("_total"), kind, frozenset(labels.split(", ")) - {""})
        for name, kind, labels in ((name, kind, labels.strip()) for name, kind, labels in rows)
    }
    token = add_token(tmp_path / "callers.toml", "ann", [Scope.SESSION])
    settings = {"callers": tmp_path / "callers.toml", "store": f"sqlite:{tmp_path / 'sessions.db'}"}
    async with (
        serve_with_metrics(repository, **settings) as (address, metrics),
        connect(address) as stranger,
        connect(address, token=token) as caller,
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await stranger.models.ListModels(model_pb2.ListModelsRequest())
        (handle,) = await caller.open("steps", "a secret name")
        await caller.step(handle, 0, np.zeros((1, 3), np.float32))
        await caller.ask(step=caller.frame([(handle, 7)], np.zeros((1, 3), np.float32)))
        await caller.ask(close=sequence_pb2.CloseSessionsRequest(handles=pack_uint64([handle])))
        _, text = await asyncio.to_thread(http_get, metrics, "/metrics")
    exported = {
        (
            family.name,
            family.type,
            frozenset(label for sample in family.samples for label in sample.labels) - {"le"},
        )
        for family in Metrics(text).families.values()
        if family.name.startswith("statewise_")
    }
    assert exported == written
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "python_info"} <= set(
        Metrics(text).families
    )
    assert "secret" not in text


async def test_buckets_of_a_histogram_only_grow(repository: Path) -> None:
    async with serve_with_metrics(repository) as (address, metrics), connect(address) as caller:
        (handle,) = await caller.open("steps", "a")
        for position in range(20):
            await caller.step(handle, position, np.zeros((1, 3), np.float32))
        told = await scrape(metrics)
    counts = [
        sample.value
        for sample in told.families["statewise_request_seconds"].samples
        if sample.name.endswith("_bucket") and sample.labels["model"] == "steps"
        and (sample.labels["version"], sample.labels["operation"]) == ("2", "step")
    ]  # fmt: skip
    assert counts == sorted(counts)
    assert counts[-1] == 20


async def test_who_is_not_let_in_is_counted_by_reason(repository: Path, tmp_path: Path) -> None:
    token = add_token(tmp_path / "callers.toml", "ann", [Scope.PREDICT])
    async with serve_with_metrics(repository, callers=tmp_path / "callers.toml") as (address, metrics):
        for known in (None, token):
            async with connect(address, token=known) as caller:
                with pytest.raises(grpc.aio.AioRpcError):
                    await caller.models.UnloadModel(model_pb2.UnloadModelRequest(name="steps"))
        told = await scrape(metrics)
    assert told("refused_calls_total", reason="UNAUTHENTICATED") == 1
    assert told("refused_calls_total", reason="PERMISSION_DENIED") == 1
