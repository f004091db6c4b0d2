"""Keeps owners apart: another one's beginning saves no step. Rows that differ in anything share nothing."""

from pathlib import Path

import numpy as np
import pytest
from tests.helpers.arrays import Array
from tests.helpers.models.foreign import one_row_with_a_rate
from tests.helpers.models.small import SmallModels

from .plane import CHUNK, running_plane

STEPS = 10 * CHUNK


def draw(random: np.random.Generator, steps: int) -> Array:
    return random.standard_normal((steps, 3)).astype(np.float32)


@pytest.mark.parametrize("shared", [False, True])
async def test_another_owner_computes_all_its_steps(
    repository: Path, random: np.random.Generator, shared: bool
) -> None:
    x = draw(random, STEPS)
    async with running_plane(repository, prefix_shared=shared) as plane:
        for owner in ("a", "b", "c"):
            before = plane.computed("steps")
            await plane.predict("steps", x, owner=owner)
            computed = plane.computed("steps") - before
            assert computed == (0 if shared and owner != "a" else STEPS)
            # Its own it finds, also in a session.
            (handle,) = await plane.open("steps", owner=owner)
            await plane.step([handle], [0], x, owner=owner)
            assert plane.computed("steps") - before == computed
        # An owner who finds nothing makes as many runs as the first one did.
        assert plane.runs("steps") == (1 if shared else 3)


async def test_an_owner_does_not_wait_for_what_another_one_computes(
    repository: Path, random: np.random.Generator
) -> None:
    x = draw(random, STEPS)
    async with running_plane(repository, inline_s=0.0) as plane:
        (a,), (b,) = await plane.open("steps", owner="a"), await plane.open("steps", owner="b")
        plane.hold()
        requests = [plane.begin_step([a], [0], x, owner="a"), plane.begin_step([b], [0], x, owner="b")]
        await plane.turn_loop()
        plane.go_on()
        for stepping in requests:
            await stepping.rows()
        assert plane.computed("steps") == 2 * STEPS
        assert plane.counts("steps") == (0, 2, 0)


async def test_rows_that_differ_in_the_last_step_of_a_chunk_do_not_share_it(
    repository: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = draw(random, 2 * CHUNK)
    x[CHUNK - 1] = 0.0
    negative = x.copy()
    negative[CHUNK - 1, 0] = -0.0  # equal to 0.0, and another input
    longer = np.concatenate([x[:CHUNK], x])
    async with running_plane(repository) as plane:
        await plane.predict("steps", x)
        for one in (negative, longer[1:], x[: CHUNK + 1], longer):
            (y,) = await plane.predict("steps", one)
            assert isinstance(y, np.ndarray)
            assert y.tobytes() == small_models.find("steps").run(one)[0].tobytes()
        # The first two share nothing with `x`. The others share a chunk, whose state the third one leaves.
        assert plane.counts("steps") == (1, 4, CHUNK)


async def test_inputs_of_the_whole_row_tell_rows_apart(tmp_path: Path, random: np.random.Generator) -> None:
    one_row_with_a_rate().publish(tmp_path / "m" / "1")
    x = draw(random, STEPS)
    rates = [np.array([rate], np.int64) for rate in (2, 3, 2, 3)]
    async with running_plane(tmp_path, prefix_bytes=0) as plane:
        expected = [await plane.predict("m", x, others={"sr": rate}) for rate in rates]
    async with running_plane(tmp_path) as plane:
        for rate, (right,) in zip(rates, expected, strict=True):
            (y,) = await plane.predict("m", x, others={"sr": rate})
            assert isinstance(y, np.ndarray)
            assert isinstance(right, np.ndarray)
            assert y.tobytes() == right.tobytes()
        assert plane.counts("m") == (2, 2, 2 * STEPS)


async def test_states_that_are_given_tell_rows_apart(
    repository: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = draw(random, STEPS)
    oracle = small_models.find("steps")
    async with running_plane(repository) as plane:
        states = [random.standard_normal(16).astype(np.float32) for _ in range(2)]
        for given in [None, *states, *states]:
            (y,) = await plane.predict("steps", x, state=given)
            assert isinstance(y, np.ndarray)
            assert y.tobytes() == oracle.run(x, given)[0].tobytes()
        assert plane.counts("steps") == (2, 3, 2 * STEPS)
        assert plane.computed("steps") == 3 * STEPS
