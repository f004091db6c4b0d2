"""Refuses sessions of graphs whose steps give other numbers than the whole sequence: these predict only."""

from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from tests.helpers.arrays import Array
from tests.helpers.caller import connect, read_answer
from tests.helpers.errors import info_in, status_of

from statewise.service.testing import running_server
from statewise.v1 import model_pb2 as mp
from statewise.v1 import sequence_pb2 as sp
from statewise.wire import from_tensor, pack_uint32, to_tensor

FORWARDS = """
<ir_version: 8, opset_import: ["" : 17]>
sums (float[T, B, 2] x, float[B, 2] s) => (float[T, B, 2] y, float[B, 2] s_out) {
    time = Constant<value = int64 {0}>()
    last = Constant<value = int64 {-1}>()
    sums = CumSum(x, time)
    y = Add(sums, s)
    s_out = Gather<axis = 0>(y, last)
}
"""
BACKWARDS = FORWARDS.replace("CumSum(", "CumSum<reverse = 1>(").replace("int64 {-1}", "int64 {0}")
"""The sum from the end on, as a reverse layer computes it."""
AHEAD = FORWARDS.replace(
    "sums = CumSum(x, time)",
    """first = Constant<value = int64[1] {0}>()
    pads = Constant<value = int64[6] {0, 0, 0, 1, 0, 0}>()
    one = Constant<value = int64[1] {1}>()
    end = Constant<value = int64[1] {9223372036854775807}>()
    padded = Pad(x, pads)
    sums = Slice(padded, one, end, first)""",
)
"""Looks one step ahead, as a centred convolution does."""
HALF = """
<ir_version: 8, opset_import: ["" : 17]>
sums (float16[T, B, 2] x, float16[B, 2] s) => (float16[B, 2] y, float16[B, 2] s_out) {
    time = Constant<value = int64[1] {0}>()
    sum = ReduceSum<keepdims = 0>(x, time)
    y = Add(sum, s)
    s_out = Identity(y)
}
"""
STATE = '[[state]]\ninput = "s"\noutput = "s_out"\n'


def publish(folder: Path, text: str, toml: str = STATE) -> None:
    folder.mkdir(parents=True)
    onnx.save(onnx.parser.parse_model(text), folder / "model.onnx")
    (folder / "model.toml").write_text(toml)


def prediction(model: str, x: Array) -> sp.PredictRequest:
    return sp.PredictRequest(model=model, lengths=pack_uint32([len(x)]), inputs={"x": to_tensor(x)})


@pytest.mark.parametrize(
    ("graph", "expected"),
    [(BACKWARDS, [[6, 60], [5, 50], [3, 30]]), (AHEAD, [[2, 20], [3, 30], [0, 0]])],
    ids=["backwards", "ahead"],
)
async def test_a_graph_that_reads_what_comes_later_predicts_and_has_no_sessions(
    tmp_path: Path, graph: str, expected: list[list[int]]
) -> None:
    publish(tmp_path / "m" / "1", graph)
    x = np.array([[1, 10], [2, 20], [3, 30]], np.float32)
    async with running_server(tmp_path) as address, connect(address) as caller:
        answer = await read_answer(caller.sequences.Predict(prediction("m", x)))
        model = (await caller.models.GetModel(mp.GetModelRequest(name="m"))).model
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await caller.sequences.OpenSessions(sp.OpenSessionsRequest(model="m", session_ids=["a"]))
    assert from_tensor(answer.outputs["y"]).tolist() == expected
    assert (model.exactness, model.streamable) == (mp.EXACTNESS_UNSAFE, False)
    assert "steps give other numbers than the whole sequence" in model.notes["sessions"]
    assert info_in(status_of(refused.value)).reason == "NOT_STREAMABLE"
    assert "declare `stepwise = true` in its model.toml" in str(refused.value.details())


async def test_a_model_may_ask_for_sessions_all_the_same(tmp_path: Path) -> None:
    publish(tmp_path / "m" / "1", BACKWARDS, "stepwise = true\n" + STATE)
    x = np.array([[1, 10], [2, 20], [3, 30]], np.float32)
    async with running_server(tmp_path) as address, connect(address) as caller:
        model = (await caller.models.GetModel(mp.GetModelRequest(name="m"))).model
        (handle,) = await caller.open("m", "a")
        steps = [await caller.step(handle, t, x[t : t + 1]) for t in range(3)]
    assert model.streamable
    assert "sessions" not in model.notes
    assert np.concatenate(steps).tolist() == [[1, 10], [3, 30], [6, 60]]


@pytest.mark.parametrize("graph", [FORWARDS, HALF], ids=["forwards", "rounding of float16"])
async def test_rounding_is_no_reason_against_sessions(tmp_path: Path, graph: str) -> None:
    publish(tmp_path / "m" / "1", graph)
    async with running_server(tmp_path) as address, connect(address) as caller:
        model = (await caller.models.GetModel(mp.GetModelRequest(name="m"))).model
        await caller.open("m", "a")
    assert model.streamable
    assert model.exactness != mp.EXACTNESS_UNSAFE
