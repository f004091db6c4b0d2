"""What is generated from a given state is what the session generates that the state was read from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from tests.helpers.any_model import AnyModel
from tests.helpers.caller import Caller
from tests.helpers.generation import Generated, SamplingColumns, generate, generate_sessions
from tests.helpers.states import StatesRead, open_in, read_states, tensors

from statewise.v1 import sequence_pb2 as pb
from statewise.v1 import tensor_pb2
from statewise.wire import pack_uint32, pack_uint64, to_tensor

MODELS = ["letters", "letters_outside", "chatter", "chatter_outside", "speech", "speech_outside"]
"""They begin with a token of their own, so that a session at position 0 generates."""
SERIES = ["wave", "wave_outside", "drift"]


@dataclass(frozen=True)
class Sessions:
    """Sessions of one model at different positions, with what they generate from there."""

    name: str
    handles: list[int]
    read: StatesRead
    settings: SamplingColumns

    def start(self, handles: list[int]) -> list[tuple[int, int]]:
        """Sessions at the same positions."""
        return list(zip(handles, self.read.positions, strict=True))


async def _sessions(caller: Caller, name: str, random: np.random.Generator) -> Sessions:
    model = await AnyModel.of(caller, name)
    lengths = [*([] if name in SERIES else [0]), 1, 6, 3]
    ids = [f"original {row}" for row in range(len(lengths))]
    request = pb.OpenSessionsRequest(model=name, session_ids=ids)
    if model.described.encoder_inputs:
        request.encoder_text.MergeFrom(tensor_pb2.TextRows(rows=["pqr", "s", "tttsr", "q"]))
    opened = await caller.ask(open=request)
    handles = [session.handle for session in opened.sessions]
    for handle, steps in zip(handles, lengths, strict=True):
        if steps:
            await model.step(caller, [(handle, 0)], [model.inputs(random, steps)])
    settings = SamplingColumns.varied(len(lengths))
    return Sessions(name, handles, await read_states(caller, *handles), settings)


def _rows(said: Generated) -> dict[int, Any]:
    assert not said.errors
    return {row: np.array(values).tobytes() for row, values in said.values.items()}


def _row_of(settings: SamplingColumns, row: int) -> SamplingColumns:
    temperature, top_k, seed = settings.row(row)
    return SamplingColumns([temperature], [top_k], [seed])


@pytest.mark.parametrize("name", [*MODELS, *SERIES])
async def test_copies_generate_what_the_sessions_generate(
    generative_caller: Caller, name: str, random: np.random.Generator
) -> None:
    caller, steps = generative_caller, 9
    own = await _sessions(caller, name, random)
    rows = range(len(own.handles))
    alone: list[int] = []
    for row in rows:
        alone += await open_in(caller, name, own.read.of_rows(slice(row, row + 1)), f"alone {row}")
    together = await open_in(caller, name, own.read, *(f"together {row}" for row in rows))
    said = await generate_sessions(caller, own.start(own.handles), steps, own.settings)
    expected, positions = _rows(said), said.positions
    again = await generate_sessions(caller, own.start(together), steps, own.settings)
    assert (_rows(again), again.positions) == (expected, positions)
    for row in rows:
        session = [(alone[row], own.read.positions[row])]
        single = await generate_sessions(caller, session, steps, _row_of(own.settings, row))
        assert (_rows(single)[0], single.positions[0]) == (expected[row], positions[row])
    after = [await read_states(caller, *handles) for handles in (own.handles, alone, together)]
    assert [one.bits() for one in after[1:]] == [after[0].bits()] * 2
    # A repetition gives the same once more, from the copies, too.
    retried = await generate_sessions(caller, own.start(together), steps, own.settings)
    assert _rows(retried) == expected


@pytest.mark.parametrize("name", [*MODELS, *SERIES])
async def test_calls_without_sessions_go_on_from_states(
    generative_caller: Caller, name: str, random: np.random.Generator
) -> None:
    caller, steps = generative_caller, 9
    own = await _sessions(caller, name, random)
    count = len(own.handles)
    given: dict[str, Any] = {
        "state": tensors(own.read.state),
        "state_positions": pack_uint64(own.read.positions),
    }
    said = await generate(caller, name, rows=count, steps=steps, settings=own.settings, **given)
    sessions = await generate_sessions(caller, own.start(own.handles), steps, own.settings)
    assert _rows(said) == _rows(sessions)
    # To go on with a call that broke off after two values of each row, or one where it ended so.
    before = [said.values[row][: min(2, len(said.values[row]))] for row in range(count)]
    values = np.concatenate([np.array(row) for row in before])
    dtype = np.float32 if name in SERIES else np.int32
    emitted = {
        "emitted": {"y": to_tensor(values.astype(dtype))},
        "emitted_lengths": pack_uint32([len(row) for row in before]),
    }
    rest = await generate(caller, name, rows=count, steps=steps, settings=own.settings, **given, **emitted)
    joined = {row: [*before[row], *rest.values.get(row, [])] for row in range(count)}
    assert joined == said.values


@pytest.mark.parametrize("name", MODELS)
async def test_a_prompt_is_consumed_after_a_given_state(
    generative_caller: Caller, name: str, random: np.random.Generator
) -> None:
    """A begin token is put in front of the row at position 0 alone, as by the session."""
    caller, model = generative_caller, await AnyModel.of(generative_caller, name)
    own = await _sessions(caller, name, random)
    prompts = [model.inputs(random, 3) for _ in own.handles]
    (entry,) = (entry.name for entry in model.described.inputs)
    said = await generate(
        caller,
        name,
        rows=len(prompts),
        steps=5,
        settings=own.settings,
        state=tensors(own.read.state),
        state_positions=pack_uint64(own.read.positions),
        prompt={entry: to_tensor(np.concatenate([one[entry] for one in prompts]))},
        prompt_lengths=pack_uint32([3] * len(prompts)),
    )
    await model.step(caller, own.start(own.handles), prompts)
    moved = [(handle, position + 3) for handle, position in own.start(own.handles)]
    assert _rows(said) == _rows(await generate_sessions(caller, moved, 5, own.settings))


async def test_a_state_of_ones_own_at_position_0_gets_no_begin_token(generative_caller: Caller) -> None:
    caller = generative_caller
    state = np.random.default_rng(3).standard_normal((1, 44)).astype(np.float32)
    request = pb.OpenSessionsRequest(model="letters", session_ids=["a"], state=tensors({"state": state}))
    (session,) = (await caller.ask(open=request)).sessions
    settings = SamplingColumns(seed=[8])
    said = await generate_sessions(caller, [(session.handle, 0)], 4, settings)
    ended = said.values[0][-1] == 0
    assert said.positions[0] == len(said.values[0]) - ended
    alone = await generate(
        caller, "letters", rows=1, steps=4, settings=settings, state=tensors({"state": state})
    )
    assert alone.values == said.values
    texts = await generate(
        caller,
        "letters",
        rows=2,
        steps=4,
        prompt_text=tensor_pb2.TextRows(rows=["ab", "ab"]),
        state=tensors({"state": np.concatenate([state, np.zeros_like(state)])}),
    )
    tokens = to_tensor(np.array([1, 2, 7, 1, 2], np.int32))
    as_tensors = await generate(
        caller,
        "letters",
        rows=2,
        steps=4,
        prompt={"x": tokens},
        prompt_lengths=pack_uint32([2, 3]),
        state=tensors({"state": np.concatenate([state, np.zeros_like(state)])}),
    )
    assert texts.values == as_tensors.values


async def test_without_its_last_output_a_model_that_is_fed_back_needs_a_prompt(
    generative_caller: Caller,
) -> None:
    caller = generative_caller
    state = tensors({"state": np.ones((1, 22), np.float32)})
    said = await generate(
        caller, "chatter_outside", rows=1, steps=3, state=state, state_positions=pack_uint64([4])
    )
    assert said.errors == {0: "BAD_TENSOR"}
    request = pb.OpenSessionsRequest(
        model="chatter_outside", session_ids=["a"], state=state, positions=pack_uint64([4])
    )
    (session,) = (await caller.ask(open=request)).sessions
    refused = await generate_sessions(caller, [(session.handle, 4)], 3, SamplingColumns())
    assert refused.errors == {0: "WRONG_CALL"}
    prompted = await generate(
        caller,
        "chatter_outside",
        rows=1,
        steps=3,
        state=state,
        prompt={"x": to_tensor(np.array([2], np.int32))},
        prompt_lengths=pack_uint32([1]),
    )
    assert len(prompted.values[0]) == 3


async def test_an_encoder_reads_nothing_beside_a_state(generative_caller: Caller) -> None:
    caller = generative_caller
    state = tensors({"state": np.ones((1, 12), np.float32)})
    text = tensor_pb2.TextRows(rows=["pq"])
    failure = await caller.ask(
        open=pb.OpenSessionsRequest(model="speech", session_ids=["a"], state=state, encoder_text=text)
    )
    assert "expected an input for the encoder, or a state; got both" in failure.message
    with pytest.raises(Exception, match="expected a condition for the encoder, or a state; got both"):
        await generate(caller, "speech", rows=1, steps=3, state=state, condition_text=text)
    request = pb.PredictRequest(model="speech", text=text, state=state)
    with pytest.raises(Exception, match="the encoder of model 'speech' computes the state"):
        [_ async for _ in caller.sequences.Predict(request)]


async def test_a_last_output_that_is_no_probabilities_leaves_other_rows_alone(
    generative_caller: Caller, random: np.random.Generator
) -> None:
    """Warnings are errors in tests, and would fail all rows."""
    strange = [[-0.0] * 7, [3e38] * 7, [-3e38] * 7, [1e-45] * 7, [-3e38, 3e38, 0, -1, 1, 1e-45, -1e-45]]
    last = np.concatenate([random.random((1, 7)), strange]).astype(np.float32)
    rows, state = len(last), random.standard_normal((len(last), 44)).astype(np.float32)
    settings, said = SamplingColumns([0.7] * rows, [5] * rows, list(range(rows))), {}
    for of_all in (True, False):
        taken = slice(None) if of_all else slice(1)
        given = tensors({"state": state[taken], "last": last[taken]})
        own = settings if of_all else _row_of(settings, 0)
        count = rows if of_all else 1
        answer = await generate(
            generative_caller, "letters_outside", rows=count, steps=9, settings=own, state=given
        )
        said[of_all] = _rows(answer)
    assert said[True][0] == said[False][0]
    assert sorted(said[True]) == list(range(rows))
