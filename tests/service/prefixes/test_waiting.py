"""Waits for chunks that others compute: somebody always goes on, and whoever waits may leave."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from tests.helpers.arrays import Array
from tests.helpers.models.small import SmallModels

from statewise.service import ServiceError
from statewise.wire import Reason

from .plane import CHUNK, running_plane

STEPS = 10 * CHUNK
SLICED = {"inline_s": 0.0, "piece_s": 1e-9}
"""Every slice has one step, and runs in the thread that a test can hold."""


@pytest.fixture
def x(random: np.random.Generator) -> Array:
    return random.standard_normal((STEPS, 3)).astype(np.float32)


async def test_who_waits_takes_over_when_a_request_is_cancelled(
    repository: Path, small_models: SmallModels, x: Array
) -> None:
    expected = small_models.find("steps").run(x)[0].tobytes()
    async with running_plane(repository, **SLICED) as plane:
        handles = await plane.open("steps", 4)
        plane.hold()
        first, *others = [plane.begin_step([handle], [0], x) for handle in handles]
        await plane.turn_loop()
        assert first.batch is not None
        first.batch.cancelled = True
        plane.go_on()
        for other in others:
            (y,) = await other.rows()
            assert y.tobytes() == expected
        answer = await first.answer()
        assert isinstance(answer, ServiceError)
        assert answer.reason is Reason.CANCELLED
        assert plane.computed("steps") == 1 + STEPS  # the slice that was under way, and one of the others
        assert plane.queued("steps") == 0
        # The session of the cancelled request has not moved, and starts behind what is known now.
        (y,) = await plane.step([handles[0]], [0], x)
        assert y.tobytes() == expected
        assert plane.computed("steps") == 1 + STEPS


async def test_rows_that_were_woken_in_another_order_get_their_own_answers(
    repository: Path, small_models: SmallModels, x: Array
) -> None:
    rows = [x, -x]
    async with running_plane(repository, **SLICED) as plane:
        handles = await plane.open("steps", 4)
        plane.hold()
        computing = [
            plane.begin_step([handle], [0], row) for handle, row in zip(handles, reversed(rows), strict=False)
        ]
        waiting = plane.begin_step(handles[2:], [0, 0], *rows)
        await plane.turn_loop()
        for stepping in computing:
            assert stepping.batch is not None
            stepping.batch.cancelled = True
        plane.go_on()
        for y, row in zip(await waiting.rows(), rows, strict=True):
            assert y.tobytes() == small_models.find("steps").run(row)[0].tobytes()


async def test_who_waits_takes_over_when_a_deadline_passes(
    repository: Path, small_models: SmallModels, x: Array
) -> None:
    async with running_plane(repository, **SLICED) as plane:
        handles = await plane.open("steps", 2)
        plane.hold()
        first = plane.begin_step([handles[0]], [0], x, deadline_s=plane.clock() + 1)
        other = plane.begin_step([handles[1]], [0], x)
        await plane.turn_loop()
        plane.clock.now_s += 2
        plane.go_on()
        (y,) = await other.rows()
        assert y.tobytes() == small_models.find("steps").run(x)[0].tobytes()
        answer = await first.answer()
        assert isinstance(answer, ServiceError)
        assert answer.reason is Reason.DEADLINE


async def test_a_deadline_ends_a_wait(repository: Path, x: Array) -> None:
    async with running_plane(repository, **SLICED) as plane:
        handles = await plane.open("steps", 2)
        plane.hold()
        first = plane.begin_step([handles[0]], [0], x)
        other = plane.begin_step([handles[1]], [0], x, deadline_s=plane.clock() + 1)
        await plane.turn_loop()
        plane.clock.now_s += 2
        plane.go_on()
        answer = await other.answer()
        assert isinstance(answer, ServiceError)
        assert answer.reason is Reason.DEADLINE
        assert not first.ended  # the wait did not last until what was waited for was there
        await first.rows()
        (y,) = await plane.step([handles[1]], [0], x[:CHUNK])  # the session has not moved
        assert len(y) == CHUNK


async def test_a_prediction_that_waits_can_be_given_up(repository: Path, x: Array) -> None:
    async with running_plane(repository, **SLICED) as plane:
        plane.hold()
        first = asyncio.create_task(plane.predict("steps", x))
        await plane.turn_loop()
        waiting = [asyncio.create_task(plane.predict("steps", x, x)) for _ in range(20)]
        await plane.turn_loop()
        assert plane.queued("steps") == (1 + 2 * 20) * STEPS
        for task in waiting:
            task.cancel()
        await plane.turn_loop()
        assert all(task.cancelled() for task in waiting)
        assert plane.queued("steps") == STEPS
        first.cancel()
        last = asyncio.create_task(plane.predict("steps", x))
        await plane.turn_loop()
        plane.go_on()
        (y,) = await last
        assert isinstance(y, np.ndarray)
        assert len(y) == STEPS
        assert plane.queued("steps") == 0


async def test_rows_that_share_different_stretches_wait_for_each_other_and_all_end(
    repository: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    stem = random.standard_normal((40 * CHUNK, 3)).astype(np.float32)
    sequences = []
    for _ in range(60):
        shared, own = int(random.integers(0, 40 * CHUNK)), int(random.integers(1, 12 * CHUNK))
        tail = random.standard_normal((own, 3)).astype(np.float32)
        sequences.append(np.concatenate([stem[:shared], tail]))
    oracle = small_models.find("steps")
    async with running_plane(repository, inline_s=0.0, piece_s=1e-5, prefix_bytes=10_000_000) as plane:
        for _ in range(2):
            requests = [plane.predict("steps", *sequences[begin : begin + 3]) for begin in range(0, 60, 3)]
            answers = [y for rows in await asyncio.gather(*requests) for y in rows]
            for one, y in zip(sequences, answers, strict=True):
                assert isinstance(y, np.ndarray)
                assert y.tobytes() == oracle.run(one)[0].tobytes()
        assert plane.queued("steps") == 0
        assert plane.computed("steps") < sum(map(len, sequences))
