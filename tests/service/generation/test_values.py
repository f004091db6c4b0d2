"""Compares forecasts, real values in raw units that are fed back, with those of the training side."""

from typing import Any

import numpy as np
import pytest
from tests.helpers.arrays import Floats
from tests.helpers.caller import Caller
from tests.helpers.generation import SamplingColumns, generate, generate_sessions
from tests.helpers.models.generative import checkpoint_of

from statewise.models import Checkpoint, generate_values
from statewise.v1 import model_pb2
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import pack_uint32, pack_uint64, to_tensor

MODELS = ["wave", "wave_outside", "drift"]
STEPS = 12


def _expected(checkpoint: Checkpoint, x: Floats, steps: int) -> Floats:
    y, state = checkpoint.predict(x[:, None], None, None)
    assert state is not None
    return generate_values(checkpoint, state, y[-1], steps)[0][:, 0]


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("model", MODELS)
async def test_a_forecast_is_fed_back_in_the_units_of_the_input(
    caller: Caller, random: np.random.Generator, model: str, rows: int
) -> None:
    prompts = [random.standard_normal((steps, 3)).astype(np.float32) for steps in random.integers(1, 9, rows)]
    steps = random.integers(1, STEPS, rows)
    said = await generate(
        caller,
        model,
        rows=rows,
        steps=steps,
        prompt={"x": to_tensor(np.concatenate(prompts))},
        prompt_lengths=pack_uint32([len(prompt) for prompt in prompts]),
    )
    assert {row: len(values) for row, values in said.values.items()} == dict(enumerate(steps.tolist()))
    for row, prompt in enumerate(prompts):
        expected = _expected(checkpoint_of(model), prompt, int(steps[row]))
        np.testing.assert_allclose(said.values[row], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
async def test_a_forecast_in_two_parts_is_the_forecast_at_once_bit_for_bit(
    caller: Caller, random: np.random.Generator, model: str
) -> None:
    x = random.standard_normal((4, 3)).astype(np.float32)
    handles = await caller.open(model, "a", "b")
    for handle in handles:
        await caller.step(handle, 0, x)
    whole = await generate_sessions(caller, [(handles[0], 4)], 20, SamplingColumns())
    first = await generate_sessions(caller, [(handles[1], 4)], 7, SamplingColumns())
    fork = await caller.ask(fork=pb.ForkSessionsRequest(handles=pack_uint64([handles[1]]), session_ids=["c"]))
    for handle in (handles[1], fork.sessions[0].handle):
        second = await generate_sessions(caller, [(handle, 11)], 13, SamplingColumns())
        assert first.values[0] + second.values[0] == whole.values[0]
        assert second.positions == {0: 24}


async def test_in_the_graph_and_from_outside_are_alike(caller: Caller, random: np.random.Generator) -> None:
    prompt = random.standard_normal((5, 3)).astype(np.float32)
    said = [
        await generate(
            caller,
            model,
            rows=1,
            steps=30,
            prompt={"x": to_tensor(prompt)},
            prompt_lengths=pack_uint32([5]),
        )
        for model in ("wave", "wave_outside")
    ]
    np.testing.assert_allclose(said[0].values[0], said[1].values[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
async def test_without_a_beginning_there_is_nothing_to_go_on_from(caller: Caller, model: str) -> None:
    said = await generate(caller, model, rows=2, steps=3)
    assert said.errors == {0: "BAD_TENSOR", 1: "BAD_TENSOR"}
    (handle,) = await caller.open(model, "fresh")
    said = await generate_sessions(caller, [(handle, 0)], 3, SamplingColumns())
    assert said.errors == {0: "WRONG_CALL"}


async def test_a_condition_may_be_real_valued(caller: Caller, random: np.random.Generator) -> None:
    first, rest = random.standard_normal((2, 3)).astype(np.float32), random.standard_normal((3, 3))
    rest = rest.astype(np.float32)
    said = await generate(
        caller,
        "wave",
        rows=2,
        steps=5,
        condition={"x": to_tensor(first)},
        prompt={"x": to_tensor(rest)},
        prompt_lengths=pack_uint32([3, 0]),
    )
    for row, prompt in enumerate([np.concatenate([first[:1], rest]), first[1:]]):
        expected = _expected(checkpoint_of("wave"), prompt, 5)
        np.testing.assert_allclose(said.values[row], expected, rtol=1e-3, atol=1e-4)


async def test_models_say_whether_and_what_they_generate(caller: Caller) -> None:
    listed = (await caller.models.ListModels(model_pb2.ListModelsRequest())).models
    found = {
        model.name: (model.generative, model.emitted.name, list(model.emitted.shape)) for model in listed
    }
    assert found["plain"] == (False, "", [])
    assert found["drift"] == found["wave"] == (True, "emitted", [3])
    assert found["letters"] == found["speech_outside"] == (True, "emitted", [])
    (speech,) = [model for model in listed if model.name == "speech"]
    assert [entry.name for entry in speech.encoder_inputs] == ["x"]
    assert (speech.encoder_vocabulary.tokens[1], speech.vocabulary.tokens[1]) == ("p", "AH")
    (letters,) = [model for model in listed if model.name == "letters"]
    assert dict(letters.vocabulary.conditions) == {"<x>": 7, "<y>": 8}


async def test_a_forecast_that_leaves_the_numbers_fails_alone(caller: Caller) -> None:
    prompts = np.ones((3, 3), np.float32)
    prompts[1] = 3e38  # beyond what its scale can be divided by
    request: dict[str, Any] = {"prompt": {"x": to_tensor(prompts)}, "prompt_lengths": pack_uint32([1, 1, 1])}
    said = await generate(caller, "drift", rows=3, steps=5, **request)
    assert said.errors == {1: "INTERNAL"}
    expected = _expected(checkpoint_of("drift"), prompts[:1], 5)
    for row in (0, 2):
        np.testing.assert_allclose(said.values[row], expected, rtol=1e-3, atol=1e-4)
    handles = await caller.open("drift", "a", "b", "c")
    await caller.ask(step=caller.frame([(handle, 0) for handle in handles], prompts))
    sessions = [(handle, 1) for handle in handles]
    first = await generate_sessions(caller, sessions, 5, SamplingColumns())
    assert (first.errors, first.positions) == ({1: "INTERNAL"}, {0: 6, 2: 6})
    # Nothing was applied to the one that failed.
    again = await generate_sessions(caller, [(handles[1], 1)], 5, SamplingColumns())
    assert again.errors == {0: "INTERNAL"}
