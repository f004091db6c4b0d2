"""Reads generations slowly: the queue counts steps that have to run, not results that wait for a reader."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from statewise.service import ServiceError, Settings
from statewise.service.assembly import build_dataplane
from statewise.service.dataplane import (
    CancellationToken,
    Dataplane,
    GenerationInputs,
    Generator,
    SessionGenerator,
)
from statewise.service.engine import Sampling
from statewise.service.inputs import RawSequences

STEPS = 300


@pytest.fixture
async def dataplane(generative: Path) -> AsyncIterator[Dataplane]:
    """Slices of one step run on the event loop; four megabytes of results may wait for their readers."""
    limits = Settings(
        repository=generative,
        load_in_child=False,
        piece_s=1e-9,
        inline_s=3600.0,
        prediction_bytes=4 * 2**20,
        queue_s=3600.0,
    )
    with ThreadPoolExecutor(1) as executor:
        dataplane = build_dataplane(limits, executor=executor)
        await dataplane.models.load_all()
        yield dataplane


async def _let_everything_run(dataplane: Dataplane, model: str) -> None:
    """Turns the event loop, on which the pieces run, until all of them have run."""
    for _ in range(20 * STEPS):
        await asyncio.sleep(0)
    assert dataplane.models.find(model).scheduler.queued_steps == 0


async def test_what_has_run_is_off_the_queue_though_nobody_took_it(dataplane: Dataplane) -> None:
    model = dataplane.models.find("chatter")
    start = GenerationInputs(2, RawSequences(), RawSequences())
    steps = np.full(2, STEPS, np.uint32)
    parts = Generator(dataplane).generate(
        model, start, steps, Sampling.greedy(2), CancellationToken(), owner=""
    )
    async with aclosing(parts) as slowly:
        first = await anext(slowly)
        assert model.scheduler.queued_steps > STEPS
        await _let_everything_run(dataplane, "chatter")
        rest = [part async for part in slowly]
    assert first.values_emitted + sum(part.values_emitted for part in rest) == 2 * STEPS
    assert model.scheduler.queued_steps == 0


async def test_sessions_that_nobody_listens_to_wait_off_the_queue(dataplane: Dataplane) -> None:
    (opened,), _ = await dataplane.sessions.open("chatter", 0, ["a"], owner="")
    handles, start = np.array([opened.view.handle], np.uint64), np.zeros(1, np.uint64)
    steps = np.array([STEPS], np.uint32)
    generator = SessionGenerator(dataplane)
    parts = generator.generate(handles, start, steps, Sampling.greedy, CancellationToken(), owner="")
    async with aclosing(parts) as slowly:
        await anext(slowly)
        await _let_everything_run(dataplane, "chatter")
    # The reader left early, so nothing was applied.
    assert (await dataplane.session_administration.get("a", owner="")).position == 0
    assert not dataplane.table.busy.any()


async def test_what_nobody_takes_is_bounded(dataplane: Dataplane) -> None:
    model = dataplane.models.find("wave")
    generator = Generator(dataplane)
    start = GenerationInputs(1, RawSequences({"x": np.zeros((1, 3), np.float32)}), RawSequences())
    steps = np.array([200_000], np.uint32)  # 2.4 MB of values
    first = generator.generate(model, start, steps, Sampling.greedy(1), CancellationToken(), owner="")
    async with aclosing(first) as slowly:
        await anext(slowly)
        with pytest.raises(ServiceError, match=f"leave no room for {2400012 + model.state_bytes} bytes"):
            await anext(
                generator.generate(model, start, steps, Sampling.greedy(1), CancellationToken(), owner="")
            )
    fewer = generator.generate(
        model, start, np.array([2], np.uint32), Sampling.greedy(1), CancellationToken(), owner=""
    )
    assert sum([part.values_emitted async for part in fewer]) == 2
    assert model.scheduler.queued_steps == 0
