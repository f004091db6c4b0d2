"""Gives states with requests: Predict and sessions go on from them, and what is none is refused by name."""

from typing import Any

import grpc
import numpy as np
import pytest
from tests.helpers.arrays import Array
from tests.helpers.caller import Caller
from tests.helpers.errors import info_in
from tests.helpers.models.small import HIDDEN, SmallModels

from statewise.v1 import model_pb2, tensor_pb2
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import from_tensor, pack_uint32, pack_uint64, to_tensor, unpack_uint32

S = 2 * HIDDEN


def _states(random: np.random.Generator, rows: int) -> Array:
    return random.standard_normal((rows, S)).astype(np.float32)


async def _predict(caller: Caller, x: list[Array], **fields: Any) -> tuple[dict[int, Array], dict[int, str]]:
    """Outputs by row, and errors by row."""
    request = pb.PredictRequest(
        model="steps",
        lengths=pack_uint32([len(one) for one in x]),
        inputs={"x": to_tensor(np.concatenate(x))},
        **fields,
    )
    rows: dict[int, Array] = {}
    errors: dict[int, str] = {}
    async for part in caller.sequences.Predict(request):
        errors.update((error.row, error.message) for error in part.errors)
        if part.rows:
            pieces = np.split(from_tensor(part.outputs["y"]), np.cumsum(unpack_uint32(part.lengths))[:-1])
            rows.update(zip(unpack_uint32(part.rows).tolist(), pieces, strict=True))
    return rows, errors


async def test_a_session_goes_on_from_the_state_and_position_that_its_opening_gives(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    x, oracle = random.standard_normal((9, 3)).astype(np.float32), small_models.find("steps")
    states = np.stack([oracle.run(x[:end])[1] for end in (4, 6)])
    request = pb.OpenSessionsRequest(
        model="steps",
        session_ids=["a", "b"],
        state={"state": to_tensor(states)},
        positions=pack_uint64([4, 6]),
    )
    opened = (await caller.ask(open=request)).sessions
    assert [one.position for one in opened] == [4, 6]
    whole = oracle.run(x)[0]
    for session in opened:
        begin = session.position
        assert (await caller.step(session.handle, begin, x[begin:])).tobytes() == whole[begin:].tobytes()
    # Opening again takes the session over as it is.
    again = (await caller.ask(open=request)).sessions
    assert [(one.position, one.created) for one in again] == [(9, False)] * 2


async def test_one_state_may_be_for_all_rows(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    state, oracle = _states(random, 1), small_models.find("steps")
    x = [random.standard_normal((steps, 3)).astype(np.float32) for steps in (3, 40, 3, 1)]
    rows, _ = await _predict(caller, x, state={"state": to_tensor(state)})
    for row, own in enumerate(x):
        assert rows[row].tobytes() == oracle.run(own, state[0])[0].tobytes()
    request = pb.OpenSessionsRequest(model="steps", session_ids="ab", state={"state": to_tensor(state)})
    for session in (await caller.ask(open=request)).sessions:
        assert session.position == 0
        assert (await caller.step(session.handle, 0, x[0])).tobytes() == rows[0].tobytes()


async def test_predict_runs_each_row_from_its_own_state(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    states, oracle = _states(random, 300), small_models.find("steps")
    x = [random.standard_normal((steps, 3)).astype(np.float32) for steps in random.integers(1, 60, 300)]
    rows, errors = await _predict(caller, x, state={"state": to_tensor(states)})
    assert not errors
    for row, own in enumerate(x):
        assert rows[row].tobytes() == oracle.run(own, states[row])[0].tobytes()


async def test_a_state_with_a_number_that_is_none_fails_its_row_alone(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    states = _states(random, 3)
    states[1, 5] = np.nan
    x = [random.standard_normal((4, 3)).astype(np.float32) for _ in states]
    rows, errors = await _predict(caller, x, state={"state": to_tensor(states)})
    expected = "state 'state': expected finite numbers; got nan at element [5]"
    assert errors == {1: expected}
    assert rows[2].tobytes() == small_models.find("steps").run(x[2], states[2])[0].tobytes()
    request = pb.OpenSessionsRequest(model="steps", session_ids="abc", state={"state": to_tensor(states)})
    reply = await caller.ask(open=request)
    assert [one.session_id for one in reply.sessions] == ["a", "c"]
    assert [(one.row, one.reason, one.message) for one in reply.errors] == [(1, "BAD_TENSOR", expected)]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"h": np.zeros((2, S), np.float32)}, "the model has no state 'h'; expected: 'state'"),
        ({"state": np.zeros((2, S))}, "state 'state': expected float32; got float64"),
        (
            {"state": np.zeros((3, S), np.float32)},
            f"state 'state': expected shape [2, {S}], or [1, {S}] for all rows; got [3, {S}]",
        ),
        ({"state": np.zeros(S, np.float32)}, f"or [1, {S}] for all rows; got [{S}]"),
        ({"state": np.full((1, S), np.inf, np.float32)}, "expected finite numbers; got inf at element [0]"),
    ],
)
async def test_what_is_no_state_is_refused_by_name(
    caller: Caller, state: dict[str, Array], expected: str
) -> None:
    tensors = {name: to_tensor(array) for name, array in state.items()}
    failure = await caller.ask(open=pb.OpenSessionsRequest(model="steps", session_ids="ab", state=tensors))
    assert info_in(failure).reason == "BAD_TENSOR"
    assert expected in failure.message
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await _predict(caller, [np.zeros((2, 3), np.float32)] * 2, state=tensors)
    assert expected in (refused.value.details() or "")


async def test_a_model_without_state_takes_none(caller: Caller) -> None:
    state = {"state": to_tensor(np.zeros((1, S), np.float32))}
    request = pb.PredictRequest(model="both", lengths=pack_uint32([1]), state=state)
    with pytest.raises(grpc.aio.AioRpcError, match="model 'both' has no state: leave the state out"):
        [_ async for _ in caller.sequences.Predict(request)]
    failure = await caller.ask(open=pb.OpenSessionsRequest(model="both", session_ids=["a"], state=state))
    assert info_in(failure).reason == "NOT_STREAMABLE"


@pytest.mark.parametrize(
    ("positions", "expected"),
    [([1], "expected 2 numbers; got 1"), ([0, 2**63], f"expected at most {2**63 - 1}; got {2**63}")],
)
async def test_positions_that_cannot_be(caller: Caller, positions: list[int], expected: str) -> None:
    state = {"state": to_tensor(np.zeros((1, S), np.float32))}
    request = pb.OpenSessionsRequest(
        model="steps", session_ids="ab", state=state, positions=pack_uint64(positions)
    )
    failure = await caller.ask(open=request)
    assert info_in(failure).reason == "BAD_REQUEST"
    assert expected in failure.message


async def test_positions_need_a_state(caller: Caller) -> None:
    request = pb.OpenSessionsRequest(model="steps", session_ids=["a"], positions=pack_uint64([4]))
    failure = await caller.ask(open=request)
    assert info_in(failure).reason == "BAD_REQUEST"
    assert "positions: expected none, as the request gives no state" in failure.message


async def test_models_tell_their_states_and_the_parts_of_them(generative_caller: Caller) -> None:
    reply = await generative_caller.models.ListModels(model_pb2.ListModelsRequest())
    states = {model.name: model.states for model in reply.models}
    (state,) = states["letters"]
    names = ["layer0.h", "layer0.c", "layer1.h", "layer1.c"]
    parts = [(part.name, part.offset, part.size) for part in state.parts]
    assert parts == [(name, 11 * at, 11) for at, name in enumerate(names)]
    assert (state.name, list(state.shape), state.dtype) == ("state", [44], tensor_pb2.DATA_TYPE_FLOAT32)
    own, last = states["letters_outside"]
    assert (own, last.name, list(last.shape)) == (state, "last", [7])
