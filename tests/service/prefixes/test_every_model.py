"""Gives the bits of a server without shared prefixes, for every kind of model that the tests know."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.helpers.arrays import Array
from tests.helpers.models.foreign import MODELS, ForeignModel
from tests.helpers.models.generative import write_generative_models

from statewise.wire import Exactness

from .plane import CHUNK, Plane, running_plane


def sequences(foreign: ForeignModel, random: np.random.Generator) -> list[dict[str, Array]]:
    """Inputs of rows that branch off at random from one stem."""
    stem = _stacked(foreign, random, 30 * CHUNK)
    rows = []
    for _ in range(12):
        shared, tail = int(random.integers(0, 30 * CHUNK)), int(random.integers(1, 3 * CHUNK))
        own = _stacked(foreign, random, tail)
        rows.append({name: np.concatenate([stem[name][:shared], own[name]]) for name in stem})
    return [*rows, *rows[:3]]


def _stacked(foreign: ForeignModel, random: np.random.Generator, steps: int) -> dict[str, Array]:
    drawn = foreign.draw(random, steps)
    return {name: np.stack([step[name] for step in drawn]) for name in foreign.samples}


async def answers(plane: Plane, rows: Sequence[dict[str, Array]]) -> list[bytes]:
    """All that predictions and first requests of sessions answer, row by row."""
    said = []
    for row in rows:
        outputs = await plane.predict_all("m", row)
        said += [array.tobytes() for array in outputs]
    handles = await plane.open("m", len(rows))
    for handle, row in zip(handles, rows, strict=True):
        steps = len(next(iter(row.values())))
        for begin, end in ((0, steps - 1), (steps - 1, steps)):
            part = {name: array[begin:end] for name, array in row.items()}
            if end > begin:
                said += [array.tobytes() for array in await plane.step_all(handle, begin, part)]
    return said


@pytest.mark.parametrize("name", MODELS)
async def test_a_foreign_graph_answers_the_same_bits(
    tmp_path: Path, random: np.random.Generator, name: str
) -> None:
    foreign = MODELS[name]()
    foreign.publish(tmp_path / "m" / "1")
    rows = sequences(foreign, random)
    async with running_plane(tmp_path, prefix_bytes=0) as plane:
        expected = await answers(plane, rows)
    for size in (10_000_000, 60_000):
        async with running_plane(tmp_path, prefix_bytes=size) as plane:
            assert await answers(plane, rows) == expected
            model = plane.dataplane.models.find("m", 0)
            takes_part = model.profile.exactness is Exactness.EXACT and model.profile.chunkable
            assert takes_part or plane.counts("m") == (0, 0, 0)
            if takes_part and size > 1_000_000:
                assert plane.counts("m")[0] >= 3


@pytest.fixture(scope="module")
def generative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generative")
    write_generative_models(root)
    return root


@pytest.mark.parametrize("model", ["letters", "chatter", "wave", "drift", "letters_outside", "wave_outside"])
async def test_prompts_that_begin_alike_generate_the_same_and_are_read_once(
    generative: Path, random: np.random.Generator, model: str
) -> None:
    def draw(steps: int) -> Array:
        if model in ("wave", "drift", "wave_outside"):
            return random.standard_normal((steps, 3)).astype(np.float32)
        return random.integers(1, 7, steps).astype(np.int32)

    beginning = draw(16 * CHUNK)
    prompts = [np.concatenate([beginning, draw(1 + row % 9)]) for row in range(24)]
    async with running_plane(generative, prefix_bytes=0) as plane:
        expected = [await plane.generate(model, one, steps=9, seed=row) for row, one in enumerate(prompts)]
        whole = plane.computed(model)
    async with running_plane(generative, inline_s=0.0) as plane:
        said = [await plane.generate(model, one, steps=9, seed=row) for row, one in enumerate(prompts)]
        assert said == expected
        loaded = plane.dataplane.models.find(model, 0)
        if loaded.profile.exactness is Exactness.EXACT and loaded.profile.chunkable:
            if not model.startswith("letters"):  # those end within a slice, which counts whole
                assert plane.computed(model) == whole - 23 * len(beginning)
            assert plane.counts(model) == (23, 1, 23 * len(beginning))
        else:
            assert plane.counts(model) == (0, 0, 0)


@pytest.mark.parametrize("model", ["speech", "speech_outside"])
async def test_an_encoder_reads_the_same_input_once(generative: Path, model: str) -> None:
    texts = ["pqrst" * 5, "pqrst" * 5 + "p", "pq", "pq", "pqrst" * 5]
    async with running_plane(generative, prefix_bytes=0) as plane:
        expected = [await plane.encode(model, text) for text in texts]
    async with running_plane(generative) as plane:
        for text, right in zip(texts, expected, strict=True):
            assert await plane.encode(model, text) == right
        encoder = plane.dataplane.models.find(model, 0).auxiliary.encoder
        assert encoder is not None
        if encoder.profile.exactness is Exactness.EXACT:
            assert plane.counts(model)[:2] == (1, 2)
