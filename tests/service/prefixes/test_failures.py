"""Fails rows whose runs fail, each alone, and forgets what is known of versions that leave memory."""

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.helpers.models.lookup import write_lookup
from tests.helpers.models.small import write_small_models

from .plane import CHUNK, running_plane

TABLE = np.arange(8, dtype=np.float32).reshape(4, 2)


@pytest.mark.parametrize("piece_s", [1e-9, 0.002])
async def test_rows_that_fail_leave_nothing_and_keep_nobody_waiting(tmp_path: Path, piece_s: float) -> None:
    write_lookup(tmp_path)
    random = np.random.default_rng(5)
    beginning = random.integers(0, 4, 20 * CHUNK)
    tails = [random.integers(0, 4, 1 + row) for row in range(6)]
    bad = beginning.copy()
    bad[17 * CHUNK + 3] = 9
    rows = [np.concatenate([start, tail]) for tail in tails for start in (bad, beginning)]
    async with running_plane(tmp_path, inline_s=0.0, piece_s=piece_s) as plane:
        handles = await plane.open("lookup", len(rows))
        for _ in range(2):
            answers = await plane.predict("lookup", *rows)
            for row, y in zip(rows, answers, strict=True):
                if row[17 * CHUNK + 3] == 9:
                    assert y == "INTERNAL"
                else:
                    assert isinstance(y, np.ndarray)
                    assert (y == TABLE[row]).all()
        plane.hold()
        steppings = [plane.begin_step([one], [0], row) for one, row in zip(handles, rows, strict=True)]
        await plane.turn_loop()
        plane.go_on()
        for stepping, row in zip(steppings, rows, strict=True):
            if row[17 * CHUNK + 3] != 9:
                (y,) = await stepping.rows()
                assert (y == TABLE[row]).all()
                continue
            answer = await stepping.answer()
            assert [failure.reason.value for failure in answer.failures] == ["INTERNAL"]  # type: ignore[union-attr]
        assert plane.queued("lookup") == 0
        hits, _, _ = plane.counts("lookup")
        assert hits > len(rows)


@pytest.fixture
def no_garbage_collector() -> Iterator[None]:
    """What is freed meanwhile is freed because nothing refers to it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collector")
async def test_a_version_that_leaves_memory_takes_its_nodes_with_it(tmp_path: Path) -> None:
    write_small_models(tmp_path)
    x = np.ones((20 * CHUNK, 3), np.float32)
    async with running_plane(tmp_path) as plane:
        budget = plane.dataplane.prefixes
        assert budget is not None
        for steps in (20 * CHUNK, 20 * CHUNK, 19 * CHUNK + 3):
            await plane.predict("last", x[:steps], x)
            await plane.predict("steps", x[:steps], x)
            (handle,) = await plane.open("steps")
            await plane.step([handle], [0], x[:steps])
            await plane.dataplane.sessions.close(np.array([handle], np.uint64), owner="")
        both = budget.nodes
        await plane.dataplane.models.unload("steps")
        assert 0 < budget.nodes < both
        await plane.dataplane.models.unload("last")
        assert (budget.nodes, budget.used_bytes) == (0, 0)
        # The version that serves now has beginnings of its own.
        await plane.predict("steps", x)
        assert plane.counts("steps") == (0, 1, 0)
