"""Serves graphs that cannot run every number of steps, and states and outputs of the smallest shapes."""

from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from tests.helpers.arrays import Array
from tests.helpers.caller import Caller, connect
from tests.service.foreign.stepping import advance

from statewise.service.testing import running_server
from statewise.v1 import model_pb2 as mp
from statewise.v1 import sequence_pb2 as sp
from statewise.wire import from_tensor, pack_uint32, to_tensor, unpack_uint32

MEANS = """
<ir_version: 8, opset_import: ["" : 17]>
means (float[batch, time, 1] x, float[batch, 1] s) => (float[batch, 1] y, float[batch, 1] s_out) {
    order = Transpose<perm = [0, 2, 1]>(x)
    ones = Constant<value = float[1, 1, 4] {1, 1, 1, 1}>()
    sums = Conv<kernel_shape = [4]>(order, ones)
    none = Constant<value = float {0}>()
    kept = Mul(sums, none)
    axis = Constant<value = int64[1] {2}>()
    added = ReduceSum<keepdims = 0>(order, axis)
    nothing = ReduceSum<keepdims = 0>(kept, axis)
    total = Add(added, nothing)
    s_out = Add(s, total)
    y = Identity(s_out)
}
"""
"""Sums its input, and cannot run fewer than four steps at a time."""
FOUR = """
least_steps = 4
[[inputs]]
name = "x"
axes = ["batch", "time", 1]
[[outputs]]
name = "y"
axes = ["batch", 1]
[[state]]
input = "s"
output = "s_out"
axes = ["batch", 1]
"""
TOTAL = """
<ir_version: 8, opset_import: ["" : 17]>
total (float[batch] x, float[batch] s) => (float[batch] y, float[batch] s_out) {
    s_out = Add(x, s)
    y = Neg(s_out)
}
"""
MEAN = """
<ir_version: 8, opset_import: ["" : 17]>
mean (float[batch, 2] x, float[batch, 2] s) => (float[batch, 2] s_out, float[batch] sum) {
    half = Constant<value = float {0.5}>()
    difference = Sub(x, s)
    change = Mul(difference, half)
    s_out = Add(s, change)
    axis = Constant<value = int64[1] {1}>()
    sum = ReduceSum<keepdims = 0>(s_out, axis)
}
"""
"""A filter: its mean is the state, and what callers want."""
SCALAR = """
<ir_version: 8, opset_import: ["" : 17]>
scalar (float[1, 2] x, float[1, 2] s) => (float y, float[1, 2] s_out) {
    s_out = Add(x, s)
    y = ReduceSum<keepdims = 0>(s_out)
}
"""
Failures = dict[int, tuple[str, str]]
STATE = '[[state]]\ninput = "s"\noutput = "s_out"\n'


def publish(folder: Path, text: str, toml: str) -> None:
    folder.mkdir(parents=True)
    onnx.save(onnx.parser.parse_model(text), folder / "model.onnx")
    (folder / "model.toml").write_text(toml)


async def predict(
    caller: Caller, model: str, x: Array, lengths: list[int]
) -> tuple[dict[int, Array], Failures]:
    """Values by row, and failures by row."""
    request = sp.PredictRequest(model=model, lengths=pack_uint32(lengths), inputs={"x": to_tensor(x)})
    values: dict[int, Array] = {}
    failures: Failures = {}
    async for answer in caller.sequences.Predict(request):
        failures |= {error.row: (error.reason, error.message) for error in answer.errors}
        if answer.rows:
            rows = unpack_uint32(answer.rows).tolist()
            values |= dict(zip(rows, from_tensor(answer.outputs["y"]), strict=True))
    return values, failures


async def test_rows_shorter_than_the_graph_can_run_are_refused_and_others_are_right(tmp_path: Path) -> None:
    publish(tmp_path / "m" / "1", MEANS, FOUR)
    x = np.arange(1, 21, dtype=np.float32)[:, None]
    async with running_server(tmp_path, piece_s=1e-9) as address, connect(address) as caller:
        assert (await caller.models.GetModel(mp.GetModelRequest(name="m"))).model.least_steps == 4
        values, failures = await predict(caller, "m", x, [6, 3, 11])
        assert {row: value.tolist() for row, value in values.items()} == {0: [21], 2: [165]}
        assert failures == {1: ("BAD_TENSOR", "expected at least 4 time steps; got 3")}
        (handle,) = await caller.open("m", "a")
        for begin, steps, total in ((0, 4, 10), (4, 9, 91)):
            reply = await caller.ask(
                step=caller.frame([(handle, begin)], x[begin : begin + steps], steps=[steps])
            )
            assert from_tensor(reply.outputs["y"]).tolist() == [[total]]
        for steps in (1, 3):
            reply = await caller.ask(step=caller.frame([(handle, 13)], x[:steps], steps=[steps]))
            assert [error.reason for error in reply.errors] == ["BAD_TENSOR"]
        reply = await caller.ask(step=caller.frame([(handle, 13)], x[:1]))
        assert [error.message for error in reply.errors] == ["expected at least 4 time steps; got 1"]


async def test_without_a_declaration_the_failure_names_it(tmp_path: Path) -> None:
    publish(tmp_path / "m" / "1", MEANS, FOUR.replace("least_steps = 4", ""))
    async with running_server(tmp_path) as address, connect(address) as caller:
        (model,) = (await caller.models.ListModels(mp.ListModelsRequest())).models
    assert model.status == mp.MODEL_STATUS_FAILED
    assert "declare least_steps in its model.toml" in model.failure
    assert "ONNXRuntimeError" not in model.failure


async def test_a_one_to_one_model_takes_one_step_a_row(untrained: Path, tmp_path: Path) -> None:
    text = (
        TOTAL.replace(", float[batch] s)", ")")
        .replace(", float[batch] s_out)", ")")
        .replace("s_out = Add(x, s)", "s_out = Add(x, x)")
    )
    publish(tmp_path / "m" / "1", text, 'call_shapes = ["one_to_one"]\n')
    async with running_server(tmp_path) as address, connect(address) as caller:
        assert (await caller.models.GetModel(mp.GetModelRequest(name="m"))).model.max_steps == 1
        values, failures = await predict(caller, "m", np.ones(4, np.float32), [1, 2, 1])
    assert {row: float(value.ravel()[0]) for row, value in values.items()} == {0: -2, 2: -2}
    assert failures == {
        1: ("BAD_TENSOR", "expected 1 time step, as the model takes no sequences; got 2"),
    }


@pytest.mark.parametrize("inline_s", [0.0, 10.0], ids=["in a thread", "on the event loop"])
async def test_a_state_of_one_number_a_row_is_right_on_every_path(tmp_path: Path, inline_s: float) -> None:
    publish(tmp_path / "m" / "1", TOTAL, STATE)
    async with running_server(tmp_path, inline_s=inline_s) as address, connect(address) as caller:
        a, b = await caller.open("m", "a", "b")
        for position, x, expected in ((0, [2], [-2]), (1, [1, 1, 1, 1], [-3, -4, -5, -6]), (5, [1], [-7])):
            reply = await caller.ask(
                step=caller.frame([(a, position)], np.array(x, np.float32), steps=[len(x)])
            )
            assert from_tensor(reply.outputs["y"]).tolist() == expected
        reply = await caller.ask(step=caller.frame([(a, 6)], np.ones(1, np.float32)))
        assert from_tensor(reply.outputs["y"]).tolist() == [-8]
        reply = await caller.ask(step=caller.frame([(a, 7), (b, 0)], np.ones(2, np.float32)))
        assert from_tensor(reply.outputs["y"]).tolist() == [-9, -1]


async def test_an_output_may_lack_its_last_axis_of_size_one(tmp_path: Path) -> None:
    toml = (
        '[[inputs]]\nname = "x"\naxes = ["batch", 2]\n[[outputs]]\nname = "y"\naxes = ["batch"]\n'
        + STATE
        + 'axes = ["batch", 2]\n'
    )
    publish(tmp_path / "m" / "1", SCALAR, toml)
    async with running_server(tmp_path) as address, connect(address) as caller:
        (model,) = (await caller.models.ListModels(mp.ListModelsRequest())).models
        assert model.failure == ""
        (handle,) = await caller.open("m", "a")
        reply = await caller.ask(step=caller.frame([(handle, 0)], np.ones((1, 2), np.float32)))
        assert from_tensor(reply.outputs["y"]).ravel().tolist() == [2]


VOLUME = """
<ir_version: 8, opset_import: ["" : 17]>
volume (float[batch, 2] x, int64 part, float[batch, 2] s) => (float[batch, 1] y, float[batch, 2] s_out) {
    s_out = Add(x, s)
    axis = Constant<value = int64[1] {0}>()
    index = Unsqueeze(part, axis)
    y = Gather<axis = 1>(s_out, index)
}
"""


async def test_a_value_that_the_graph_does_not_take_is_the_callers_mistake(tmp_path: Path) -> None:
    toml = '[[inputs]]\nname = "x"\n[[inputs]]\nname = "part"\ndefault = 1\n' + STATE
    publish(tmp_path / "m" / "1", VOLUME, toml)
    x = np.array([[1, 10]], np.float32)
    async with running_server(tmp_path) as address, connect(address) as caller:
        (handle,) = await caller.open("m", "a")
        frame = caller.frame([(handle, 0)], x)
        frame.inputs["part"].CopyFrom(to_tensor(np.array([7], np.int64)))
        reply = await caller.ask(step=frame)
        message = "the model cannot run with 'part' = 7 (default 1)"
        assert [(error.reason, error.message) for error in reply.errors] == [("BAD_TENSOR", message)]
        reply = await caller.ask(step=caller.frame([(handle, 0)], x))
        assert from_tensor(reply.outputs["y"]).tolist() == [[10]]
        request = sp.PredictRequest(model="m", lengths=pack_uint32([1]), inputs={"x": to_tensor(x)})
        request.inputs["part"].CopyFrom(to_tensor(np.array([7], np.int64)))
        failures = []
        try:
            async for answer in caller.sequences.Predict(request):
                failures += [(error.reason, error.message) for error in answer.errors]
        except grpc.aio.AioRpcError as error:
            raise AssertionError(error.details()) from error
        assert failures == [("BAD_TENSOR", message)]


@pytest.mark.parametrize("declared", ["", '[[outputs]]\nname = "sum"\n[[outputs]]\nname = "s_out"\n'])
async def test_the_state_may_be_what_callers_get(tmp_path: Path, declared: str) -> None:
    """Alone where the graph has no other output, or beside others where it is declared."""
    text = MEAN if declared else MEAN.replace(", float[batch] sum)", ")")
    publish(tmp_path / "m" / "1", text, STATE + declared)
    x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    expected = [x[0] / 2]
    expected += [expected[0] + (x[1] - expected[0]) / 2]
    expected += [expected[1] + (x[2] - expected[1]) / 2]
    async with running_server(tmp_path) as address, connect(address) as caller:
        (model,) = (await caller.models.ListModels(mp.ListModelsRequest())).models
        assert model.failure == ""
        assert [entry.name for entry in model.outputs] == (["sum", "s_out"] if declared else ["s_out"])
        assert model.exactness == mp.EXACTNESS_EXACT
        handles = await caller.open("m", "a", "b")
        for step, frame in enumerate(x):
            found = await advance(
                caller, [(handle, step) for handle in handles], [[{"x": row}] for row in frame]
            )
            assert found["s_out"].tolist() == expected[step].tolist()
            if declared:
                assert found["sum"].tolist() == expected[step].sum(axis=1).tolist()


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (np.array([5.0, 7.0]), "start.npy", ""),
        (np.array([[5.0], [7.0]]), "start.npy", ""),  # the numbers count, in C order
        (np.array([5.0]), "start.npy", "expected a number, or 2 of them"),
        (np.array(["5", "x"]), "start.npy", "expected an array of numbers"),
        (np.array([5.0, 7.0]), "../start.npy", "expected the name of an .npy file in the version's folder"),
        (np.array([5.0, 7.0]), "absent.npy", "expected the name of an .npy file in the version's folder"),
    ],
)
async def test_a_state_may_begin_as_a_file_says(
    tmp_path: Path, content: Array, name: str, words: str
) -> None:
    text = TOTAL.replace("[batch]", "[batch, 2]")
    publish(tmp_path / "m" / "1", text, f'{STATE}initial = "{name}"\n')
    np.save(tmp_path / "m" / "1" / "start.npy", content)
    np.save(tmp_path / "m" / "start.npy", content)
    async with running_server(tmp_path) as address, connect(address) as caller:
        (model,) = (await caller.models.ListModels(mp.ListModelsRequest())).models
        assert words in model.failure
        assert (model.failure == "") == (words == "")
        if not words:
            (handle,) = await caller.open("m", "a")
            assert (await caller.step(handle, 0, np.ones((1, 2), np.float32))).tolist() == [[-6, -8]]
