"""Compares generated tokens with the training side's, in any batches and pieces, in the graph or fed back."""

from pathlib import Path

import numpy as np
import pytest
from tests.helpers.caller import Caller, connect
from tests.helpers.generation import SamplingColumns, generate, generate_sessions, oracle_of

from statewise.service.testing import running_server
from statewise.v1 import admin_pb2
from statewise.v1.tensor_pb2 import TextRows
from statewise.wire import from_tensor, pack_uint32, to_tensor

MODELS = ["letters", "letters_outside"]
STEPS = 40
X, Y = 7, 8


def _prompts(rows: int) -> list[list[int]]:
    """A condition, then some letters or none."""
    random = np.random.default_rng(rows + 100)
    return [
        [int(random.choice([X, Y])), *random.integers(1, 7, random.integers(0, 6)).tolist()]
        for _ in range(rows)
    ]


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("model", MODELS)
async def test_generate_says_what_the_oracle_says(caller: Caller, model: str, rows: int) -> None:
    prompts, settings = _prompts(rows), SamplingColumns.varied(rows)
    steps = np.random.default_rng(rows).integers(1, STEPS, rows)
    said = await generate(
        caller,
        model,
        rows=rows,
        steps=steps,
        settings=settings,
        condition={"x": to_tensor(np.array([prompt[0] for prompt in prompts], np.int32))},
        prompt={"x": to_tensor(np.concatenate([prompt[1:] for prompt in prompts]).astype(np.int32))},
        prompt_lengths=pack_uint32([len(prompt) - 1 for prompt in prompts]),
    )
    expected = {
        row: oracle_of(model).tokens(prompt, int(steps[row]), settings, row)
        for row, prompt in enumerate(prompts)
    }
    assert said.values == expected
    assert said.errors == {}
    if rows > 1:
        assert len({tuple(tokens) for tokens in expected.values()}) > rows // 2
        assert any(tokens[-1] == 0 and len(tokens) < steps[row] for row, tokens in expected.items())


@pytest.mark.parametrize("piece_s", [1e-9, 0.0005])
@pytest.mark.parametrize("inline_s", [0.0, 1.0])
@pytest.mark.parametrize("model", MODELS)
async def test_pieces_and_threads_change_nothing(
    generative: Path, model: str, piece_s: float, inline_s: float
) -> None:
    settings = SamplingColumns(temperature=[0.9], seed=[5, 6, 7])
    async with (
        running_server(generative, piece_s=piece_s, inline_s=inline_s) as address,
        connect(address) as caller,
    ):
        said = await generate(
            caller,
            model,
            rows=3,
            steps=STEPS,
            settings=settings,
            condition_text=TextRows(rows=["x", "<y>", "x"]),
        )
        if piece_s < 1e-6:
            await _batches_have_run(caller, model, max(map(len, said.values.values())))
    assert said.values == {
        row: oracle_of(model).tokens([token], STEPS, settings, row) for row, token in enumerate([X, Y, X])
    }


async def _batches_have_run(caller: Caller, model: str, count: int) -> None:
    """Waits until the server has counted so many runs of a model."""
    async for stats in caller.admin.WatchStats(admin_pb2.WatchStatsRequest()):
        if sum(one.batches for one in stats.models if one.model == model) >= count:
            return


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("model", MODELS)
async def test_sessions_generate_a_then_b_as_a_and_b(caller: Caller, model: str, rows: int) -> None:
    prompts, settings = _prompts(rows), SamplingColumns.varied(rows)
    if rows == 1:
        settings = SamplingColumns.long(oracle_of(model), prompts[0], STEPS)
    first, second = 9, STEPS - 9
    handles = await caller.open(model, *(f"in two {row}" for row in range(rows)))
    twins = await caller.open(model, *(f"at once {row}" for row in range(rows)))
    for chosen in (handles, twins):
        await caller.ask(
            step=caller.frame(
                [(handle, 0) for handle in chosen],
                np.concatenate(prompts).astype(np.int32),
                steps=[len(prompt) for prompt in prompts],
            )
        )
    starts = [len(prompt) for prompt in prompts]
    whole = await generate_sessions(caller, list(zip(twins, starts, strict=True)), STEPS, settings)
    assert whole.values == {
        row: oracle_of(model).tokens(prompt, STEPS, settings, row) for row, prompt in enumerate(prompts)
    }
    a = await generate_sessions(caller, list(zip(handles, starts, strict=True)), first, settings)
    going = [row for row in range(rows) if a.values[row][-1] != 0]
    b = await generate_sessions(
        caller,
        [(handles[row], a.positions[row]) for row in going],
        second,
        SamplingColumns(
            **{
                name: [column[row] if len(column) > 1 else column[0] for row in going] if column else []
                for name, column in vars(settings).items()
            }
        ),
    )
    together = {row: list(a.values[row]) for row in range(rows)}
    for place, row in enumerate(going):
        together[row] += b.values[place]
    assert together == whole.values

    # A step after a generation continues from the consumed tokens: all but the end token.
    for row in range(rows):
        consumed = [token for token in whole.values[row] if token != 0]
        assert whole.positions[row] == starts[row] + len(consumed)
    y = await caller.ask(
        step=caller.frame(
            [(twins[row], whole.positions[row]) for row in range(rows)], np.full(rows, 2, np.int32)
        )
    )
    assert not y.errors
    network = oracle_of(model).network
    for row in range(rows):
        read = [*prompts[row], *(token for token in whole.values[row] if token != 0), 2]
        expected, _ = network.run(np.array(read, np.int32)[:, None])
        np.testing.assert_allclose(from_tensor(y.outputs["y"])[row], expected[-1, 0], atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
async def test_a_fresh_session_begins_by_itself(caller: Caller, model: str) -> None:
    settings = SamplingColumns(seed=[3])
    (handle,) = await caller.open(model, "fresh")
    said = await generate_sessions(caller, [(handle, 0)], 5, settings)
    assert said.values[0] == oracle_of(model).tokens([X], 5, settings, 0)
    consumed = sum(token != 0 for token in said.values[0])
    assert said.positions == {0: 1 + consumed}
    again = await generate_sessions(caller, [(handle, 0)], 5, settings)
    assert (again.values, again.positions) == (said.values, said.positions)


async def test_a_session_that_has_ended_says_so_again_and_stays(caller: Caller) -> None:
    settings = next(
        found
        for seed in range(100)
        if 2 < len(oracle_of("letters").tokens([X], 50, found := SamplingColumns(seed=[seed]), 0)) < 20
    )
    (handle,) = await caller.open("letters", "ending")
    first = await generate_sessions(caller, [(handle, 0)], 50, settings)
    assert first.values[0][-1] == 0
    assert first.positions[0] == len(first.values[0])
    position = first.positions[0]
    for _ in range(2):
        more = await generate_sessions(caller, [(handle, position)], 50, settings)
        assert (more.values, more.positions) == ({0: [0]}, {0: position})
    # Nothing was consumed, so the request before is still the one that can be repeated.
    again = await generate_sessions(caller, [(handle, 0)], 50, settings)
    assert again.values == first.values
