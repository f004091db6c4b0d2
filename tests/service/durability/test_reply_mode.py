"""Lets another server take sessions over while replies wait: what the store left out is not told as done."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.helpers.models.generative import checkpoint_of
from tests.helpers.models.small import SmallModels
from tests.service.durability.stored_server import StoredServer, serving, stepping
from tests.service.stores.places import Open

from statewise.export import export_checkpoint
from statewise.service.base import RowFailure, StepResult
from statewise.service.dataplane import CancellationToken, GeneratedPart, SessionGenerator
from statewise.service.engine import Sampling

MOVED = "SESSION_MOVED"


async def waiting(server: StoredServer, ask: Callable[[], asyncio.Future[StepResult]]) -> StepResult:
    """The result of a step that has to wait for a checkpoint."""
    asked = ask()
    await asyncio.sleep(0)
    while not asked.done():
        assert await server.stored.checkpoints.tick()
        await asyncio.sleep(0)
    return asked.result()


def reasons(failures: Sequence[RowFailure]) -> list[tuple[int, str]]:
    """Which rows failed, and why."""
    return [(failure.row, str(failure.reason)) for failure in failures]


async def test_rows_of_a_session_that_moved_fail_and_the_others_are_told(
    repository: Path, open_store: Open, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((9, 3)).astype(np.float32)
    whole = small_models.find("steps").run(x)[0]
    chosen = {"durability": "reply"}
    async with serving(repository, open_store, **chosen) as stale, serving(repository, open_store) as taker:
        handles = await stale.open("moves", "stays")
        both = [handles["moves"], handles["stays"]]
        first = np.concatenate([x[:2], x[:2]])
        result = await waiting(stale, lambda: stepping(stale, both, 0, [2, 2], first))
        assert (reasons(result.failures), result.outputs["y"].tobytes()) == ([], whole[:2].tobytes() * 2)
        taken = await taker.resume("moves")

        second = np.concatenate([-x[:4], x[2:5]])
        result = await waiting(stale, lambda: stepping(stale, both, 2, [4, 3], second))
        assert reasons(result.failures) == [(0, MOVED)]
        assert result.outputs["y"].tobytes() == whole[2:5].tobytes()
        assert result.durable_positions is not None
        assert result.durable_positions.tolist() == [5]
        np.testing.assert_array_equal((await taker.step(taken["moves"], 2, x[2:])).outputs["y"], whole[2:])


async def test_a_takeover_that_the_tick_before_has_met_is_not_forgotten(
    repository: Path, open_store: Open, random: np.random.Generator
) -> None:
    x = random.standard_normal((3, 3)).astype(np.float32)
    chosen = {"durability": "reply"}
    async with serving(repository, open_store, **chosen) as stale, serving(repository, open_store) as taker:
        handle = (await stale.open("moves"))["moves"]
        await taker.resume("moves")
        table, held = stale.dataplane.table, threading.Event()
        table.note_changed(table.slots_of(np.array([handle], np.uint64)))
        holding = asyncio.ensure_future(stale.stored.store.call(held.wait))
        ticking = asyncio.ensure_future(stale.stored.checkpoints.tick())
        await asyncio.sleep(0)
        asked = stepping(stale, [handle], 0, [3], x)  # the handle is valid as yet
        await stale.dataplane.sessions.snapshot(
            np.array([handle], np.uint64), owner="ann"
        )  # has its turn later
        held.set()
        assert await ticking
        await holding
        result = await waiting(stale, lambda: asked)
        assert reasons(result.failures) == [(0, MOVED)]
        assert len(result.outputs["y"]) == 0


@pytest.mark.parametrize("durability", ["interval", "reply"])
async def test_a_rewind_of_a_session_that_moved_is_not_told_as_done(
    repository: Path, open_store: Open, random: np.random.Generator, durability: str
) -> None:
    x = random.standard_normal((4, 3)).astype(np.float32)
    async with (
        serving(repository, open_store, durability=durability) as stale,
        serving(repository, open_store) as taker,
    ):
        handles = await stale.open("moves", "stays")
        both = list(handles.values())
        await waiting(stale, lambda: stepping(stale, both, 0, [2, 2], x))
        await stale.stored.settle()
        await taker.resume("moves")
        rewound, failures = await stale.dataplane.sessions.rewind(
            np.array(both, np.uint64), np.zeros(2, np.uint64), owner="ann"
        )
        assert reasons(failures) == [(0, MOVED)]
        assert [(one.view.session_id, one.view.position) for one in rewound] == [("stays", 0)]


async def test_a_close_of_a_session_that_moved_is_not_told_as_done(
    repository: Path, open_store: Open, random: np.random.Generator
) -> None:
    x = random.standard_normal((2, 3)).astype(np.float32)
    async with serving(repository, open_store) as stale, serving(repository, open_store) as taker:
        handles = await stale.open("moves", "stays", "ended")
        await stale.stored.settle()
        taken = await taker.resume("moves", "ended")
        assert await taker.close(taken["ended"]) == []
        assert reasons(await stale.close(*handles.values())) == [(0, MOVED)]
        assert not (await taker.step(taken["moves"], 0, x)).failures
        assert await taker.close(taken["moves"]) == []
        assert await taker.listed(size=10) == []


@pytest.mark.parametrize("durability", ["interval", "reply"])
async def test_the_end_of_a_generation_that_the_store_left_out_is_not_told_as_done(
    tmp_path: Path, open_store: Open, durability: str
) -> None:
    root = tmp_path / "models"
    export_checkpoint(checkpoint_of("chatter"), root, name="chatter")
    async with (
        serving(root, open_store, durability=durability) as stale,
        serving(root, open_store) as taker,
    ):
        opened = await stale.open("moves", "stays", model="chatter")
        await stale.stored.settle()
        await taker.resume("moves")
        handles = np.array(list(opened.values()), np.uint64)
        table = stale.dataplane.table
        generated = SessionGenerator(stale.dataplane).generate(
            handles,
            np.zeros(2, np.uint64),
            np.full(2, 50, np.uint32),
            Sampling.greedy,
            CancellationToken(),
            owner="ann",
        )
        parts: list[GeneratedPart] = []
        async for part in generated:
            if durability == "interval" and not parts:
                table.note_changed(table.slots_of(handles))
                await stale.stored.settle()  # it learns of the takeover while it generates
            parts.append(part)
        assert sum(part.values_emitted for part in parts) == 100
        assert [reasons(part.failures) for part in parts if part.failures] == [[(0, MOVED)]]
        await stale.stored.settle()
        # The begin token is a time step, too.
        resumed = await taker.dataplane.sessions.resume(["moves", "stays"], owner="ann")
        assert [(one.view.session_id, one.view.position) for one in resumed[0]] == [
            ("moves", 0),
            ("stays", 51),
        ]
