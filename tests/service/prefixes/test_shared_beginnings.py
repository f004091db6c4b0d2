"""Computes what sequences have in common once, and gives the bits that each sequence gives alone."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from tests.helpers.arrays import Array
from tests.helpers.models.small import SmallModels

from .plane import CHUNK, running_plane

COMMON = 10 * CHUNK


def draw(random: np.random.Generator, steps: int) -> Array:
    return random.standard_normal((steps, 3)).astype(np.float32)


def same(answers: list[Array | str] | list[Array], expected: list[Array]) -> None:
    assert len(answers) == len(expected)
    for answer, one in zip(answers, expected, strict=True):
        assert isinstance(answer, np.ndarray)
        assert answer.tobytes() == one.tobytes()


@pytest.mark.parametrize("model", ["steps", "last"])
@pytest.mark.parametrize("inline_s", [0.0, 0.002])
async def test_predictions_that_begin_alike_compute_the_beginning_once(
    repository: Path, small_models: SmallModels, random: np.random.Generator, model: str, inline_s: float
) -> None:
    beginning = draw(random, COMMON)
    tails = [draw(random, steps) for steps in (0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 2, 0, 5)]
    sequences = [np.concatenate([beginning, tail]) for tail in tails]
    oracle = small_models.find(model)
    expected = [oracle.run(one)[0] for one in sequences]
    async with running_plane(repository, inline_s=inline_s) as plane:
        for one, right in zip(sequences, expected, strict=True):
            same(await plane.predict(model, one), [right])
        own = sum(len(tail) for tail in tails)
        assert plane.computed(model) == COMMON + own
        assert plane.counts(model) == (6, 1, 6 * COMMON)
        before = plane.computed(model)
        same(await plane.predict(model, *sequences), expected)
        assert plane.computed(model) - before == sum(len(one) % CHUNK for one in sequences)
    async with running_plane(repository, inline_s=inline_s) as plane:
        same(await plane.predict(model, *sequences), expected)
        assert plane.computed(model) == COMMON + own


@pytest.mark.parametrize("model", ["steps", "last"])
@pytest.mark.parametrize("inline_s", [0.0, 0.002])
async def test_sessions_that_begin_alike_compute_the_beginning_once(
    repository: Path, small_models: SmallModels, random: np.random.Generator, model: str, inline_s: float
) -> None:
    beginning = draw(random, COMMON)
    tails = [draw(random, 1 + row % 7) for row in range(64)]
    oracle = small_models.find(model)
    state = oracle.run(beginning)[1]
    async with running_plane(repository, inline_s=inline_s) as plane:
        handles = await plane.open(model, len(tails))
        # A third in one request, a third all at once, a third one after another.
        same(await plane.step(handles[:22], [0] * 22, *[beginning] * 22), [oracle.run(beginning)[0]] * 22)
        at_once = [plane.begin_step([handle], [0], beginning) for handle in handles[22:44]]
        for stepping in at_once:
            same(await stepping.rows(), [oracle.run(beginning)[0]])
        for handle in handles[44:]:
            same(await plane.step([handle], [0], beginning), [oracle.run(beginning)[0]])
        assert plane.computed(model) == COMMON
        for handle, tail in zip(handles, tails, strict=True):
            same(await plane.step([handle], [COMMON], tail), [oracle.run(tail, state)[0]])
        same(await plane.step(handles[:1], [COMMON], tails[0]), [oracle.run(tails[0], state)[0]])  # a retry


async def test_single_steps_short_and_later_requests_are_not_looked_up(
    repository: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = draw(random, 3 * CHUNK)
    async with running_plane(repository) as plane:
        for _ in range(2):
            (handle,) = await plane.open("steps")
            await plane.step([handle], [0], x[: CHUNK - 1])
            await plane.step([handle], [CHUNK - 1], x[CHUNK - 1 :])
            await plane.predict("steps", x[: CHUNK - 1])
        assert plane.counts("steps") == (0, 0, 0)
        assert plane.dataplane.prefixes is not None
        assert plane.dataplane.prefixes.nodes == 0


async def test_many_at_once_compute_a_beginning_once(
    repository: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    beginning = draw(random, COMMON)
    sequences = [np.concatenate([beginning, draw(random, 3 + row % 5)]) for row in range(100)]
    oracle = small_models.find("steps")
    async with running_plane(repository, inline_s=0.0) as plane:
        answers = await asyncio.gather(*(plane.predict("steps", one) for one in sequences))
        for one, answer in zip(sequences, answers, strict=True):
            same(answer, [oracle.run(one)[0]])
        assert plane.computed("steps") == COMMON + sum(3 + row % 5 for row in range(100))
        assert plane.counts("steps") == (99, 1, 99 * COMMON)
        assert plane.queued("steps") == 0


@pytest.mark.parametrize("at_once", [False, True])
async def test_256_sessions_compute_2048_common_steps_once(
    repository: Path, small_models: SmallModels, random: np.random.Generator, at_once: bool
) -> None:
    beginning = draw(random, 2048)
    rows = [np.concatenate([beginning, draw(random, 1 + row)]) for row in range(256)]
    oracle = small_models.find("last")
    async with running_plane(repository, prefix_chunk=128) as plane:
        handles = await plane.open("last", len(rows))
        if at_once:
            begun = [plane.begin_step([one], [0], row) for one, row in zip(handles, rows, strict=True)]
            said = [await stepping.rows() for stepping in begun]
        else:
            said = [await plane.step([one], [0], row) for one, row in zip(handles, rows, strict=True)]
        for (y,), row in list(zip(said, rows, strict=True))[::15]:
            assert y.tobytes() == oracle.run(row)[0].tobytes()
        own = sum(len(row) - len(beginning) for row in rows)
        assert plane.computed("last") == len(beginning) + own
        assert plane.counts("last") == (255, 1, 255 * len(beginning))


async def test_models_that_are_not_exact_and_those_not_named_are_never_looked_up(
    repository: Path, random: np.random.Generator
) -> None:
    x = draw(random, COMMON)
    async with running_plane(repository, prefix_models="last, other") as plane:
        for model in ("steps", "last", "both"):
            for _ in range(2):
                await plane.predict(model, x)
        assert plane.counts("steps") == (0, 0, 0)
        assert plane.counts("last") == (1, 1, COMMON)
        assert plane.counts("both") == (0, 0, 0)
