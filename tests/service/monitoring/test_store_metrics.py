"""Reads the metrics of a server with a session store, which takes everything or is full."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.helpers.caller import connect
from tests.helpers.metrics_server import http_get, serve_with_metrics

from statewise.service import Settings
from statewise.service.assembly import build_dataplane
from statewise.service.dataplane.durability import StoreThread
from statewise.service.monitoring import make_registry
from statewise.service.stores import Block, StoreUnavailable, Written
from statewise.service.stores.sqlite import SqliteStore
from statewise.v1 import sequence_pb2
from statewise.wire import pack_uint64


class Clock:
    """Seconds that pass when a test says so."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class FullStore(SqliteStore):
    """A store on a disk that is full while `full` is set."""

    full = False

    def write(self, block: Block) -> Written:
        if self.full:
            raise StoreUnavailable("the disk is full")
        return super().write(block)


def values(registry: CollectorRegistry) -> dict[str, float]:
    """The metrics of the store, by their names without prefix."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        sample.name.removeprefix("statewise_"): sample.value
        for family in families
        for sample in family.samples
        if any(part in sample.name for part in ("checkpoint", "store_away", "durable"))
    }


async def test_checkpoints_are_counted_and_a_full_store_is_told(repository: Path, tmp_path: Path) -> None:
    clock = Clock()
    opened: list[FullStore] = []

    def open_store() -> FullStore:
        opened.append(FullStore(tmp_path / "sessions.db"))
        return opened[0]

    store = StoreThread(open_store)
    with ThreadPoolExecutor(1) as executor:
        settings = Settings(repository=repository, load_in_child=False)
        dataplane = build_dataplane(settings, executor=executor, clock=clock, store=store)
        await dataplane.models.load_all()
        registry = make_registry(dataplane, release="1", is_ready=lambda: True)
        clock.now_s += 2.0
        before = values(registry)
        assert (before["checkpoints_total"], before["store_away"]) == (0, 0)
        assert before["durable_lag_seconds"] == 2.0  # no checkpoint has run yet

        assert dataplane.sessions.stored is not None
        tick = dataplane.sessions.stored.checkpoints.tick
        await dataplane.sessions.open("steps", 0, ["a", "b"], owner="ann")
        assert await tick()
        assert await tick()  # nothing has changed: nothing is written
        stored = values(registry)
        assert (stored["checkpoints_total"], stored["checkpoint_failures_total"]) == (1, 0)
        assert stored["checkpoint_sessions_total"] == 2
        assert stored["checkpoint_bytes_total"] > 2 * 64
        assert (stored["store_away"], stored["durable_lag_seconds"]) == (0, 0.0)

        opened[0].full = True
        await dataplane.sessions.open("steps", 0, ["c"], owner="ann")
        clock.now_s += 30.0
        assert not await tick()
        away = values(registry)
        assert (away["store_away"], away["checkpoint_failures_total"]) == (1, 1)
        assert away["durable_lag_seconds"] == 30.0
        assert away["checkpoint_sessions_total"] == 2

        opened[0].full = False
        assert await tick()
        back = values(registry)
        assert (back["store_away"], back["durable_lag_seconds"]) == (0, 0.0)
        assert (back["checkpoints_total"], back["checkpoint_sessions_total"]) == (2, 3)
        await store.close()


async def test_what_the_store_keeps_is_told(repository: Path, tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'sessions.db'}"
    async with serve_with_metrics(repository, store=store) as (address, _), connect(address) as caller:
        await caller.open("steps", "a", "b", "c")
    async with serve_with_metrics(repository, store=store, store_bytes=10_000) as (address, metrics):
        async with connect(address) as caller:
            await caller.ask(resume=sequence_pb2.ResumeSessionsRequest(session_ids=["b"]))
        told = ""
        while "statewise_sessions_asleep 2.0" not in told:  # it asks the store about once a second
            _, told = await asyncio.to_thread(http_get, metrics, "/metrics")
    assert "statewise_store_sessions 3.0" in told
    assert float(told.partition("\nstatewise_store_bytes ")[2].split()[0]) > 3 * 64
    assert "statewise_store_limit_bytes 10000.0" in told
    assert 'statewise_sessions_opened_total{origin="wake"} 1.0' in told


async def test_the_log_says_that_idle_sessions_sleep_and_not_that_they_end(
    repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "statewise.service")
    settings = {"store": f"sqlite:{tmp_path / 'sessions.db'}", "idle_timeout_s": 0.1}
    async with serve_with_metrics(repository, **settings) as (address, metrics), connect(address) as caller:
        await caller.open("steps", "a")
        while "were idle for too long" not in caplog.text:
            await asyncio.to_thread(http_get, metrics, "/metrics")
    assert "1 sessions were idle for too long and sleep in the store" in caplog.text
    assert "ended" not in caplog.text


async def test_only_a_server_with_a_store_has_these_metrics(repository: Path, tmp_path: Path) -> None:
    async with serve_with_metrics(repository) as (_, metrics):
        _, told = await asyncio.to_thread(http_get, metrics, "/metrics")
    assert "checkpoint" not in told
    with_store = f"sqlite:{tmp_path / 'sessions.db'}"
    async with serve_with_metrics(repository, store=with_store) as (address, metrics):
        async with connect(address) as caller:
            handle, _ = await caller.open("steps", "a", "b")
            handles = pack_uint64([handle])
            await caller.ask(close=sequence_pb2.CloseSessionsRequest(handles=handles))
        _, told = await asyncio.to_thread(http_get, metrics, "/metrics")
    assert "statewise_store_away 0.0" in told
    assert "statewise_checkpoints_total 0.0" not in told  # closing "a" has stored "b"
