"""Cancels a generation in the turn of the loop that would begin it: other sessions go on."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import numpy as np

from statewise.service import ServiceError, Settings
from statewise.service.assembly import build_dataplane
from statewise.service.base import StepResult
from statewise.service.dataplane import CancellationToken, SessionGenerator
from statewise.service.engine import Sampling


def was_applied(result: StepResult | ServiceError) -> bool:
    return isinstance(result, StepResult) and not result.failures


async def test_given_up_in_the_turn_that_would_begin_it_it_takes_nothing(generative: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        dataplane = build_dataplane(Settings(repository=generative, load_in_child=False), executor=executor)
        await dataplane.models.load_all()
        opened, _ = await dataplane.sessions.open("wave", 0, ["a", "b"], owner="")
        handles = np.array([one.view.handle for one in opened], np.uint64)

        def step(rows: slice, position: int) -> asyncio.Future[StepResult | ServiceError]:
            answer: asyncio.Future[StepResult | ServiceError] = asyncio.get_running_loop().create_future()
            count = len(handles[rows])
            positions, x = np.full(count, position, np.uint64), {"x": np.zeros((count, 3), np.float32)}
            dataplane.step(
                handles[rows], positions, None, x, owner="", deadline_s=None, reply=answer.set_result
            )
            return answer

        async def generate() -> None:
            one = slice(0, 1)
            steps, start = np.array([5], np.uint32), np.ones(1, np.uint64)
            generator = SessionGenerator(dataplane)
            parts = generator.generate(
                handles[one], start, steps, Sampling.greedy, CancellationToken(), owner=""
            )
            async with aclosing(parts) as given:
                await anext(given)

        assert was_applied(await step(slice(0, 2), 0))
        generating = asyncio.create_task(generate())
        # The generation asks for the scheduler's next turn, which comes before its task is cancelled.
        await asyncio.sleep(0)
        behind_it = step(slice(1, 2), 1)
        generating.cancel()
        async with asyncio.timeout(60):
            assert was_applied(await behind_it)
        await asyncio.gather(generating, return_exceptions=True)
        assert generating.cancelled()
        assert not dataplane.table.busy.any()
        assert was_applied(await step(slice(0, 1), 1))
