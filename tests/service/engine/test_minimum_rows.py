"""Runs of few rows are filled up by an engine of its own, and the loaded engine stays as it was."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from statewise.service.engine import Engine, EngineError, profile_engine
from statewise.wire import CallShape, ModelSpec, StatePair, TensorSpec

SPEC = ModelSpec(
    inputs=(TensorSpec("x", "float32", (2,)), TensorSpec("bias", "float32", (2,), per_step=False)),
    outputs=(TensorSpec("y", "float32", (2,)),),
    state=(StatePair("s", "s_out", "float32", (2,)),),
    call_shapes=(CallShape.MANY_TO_MANY,),
)
GRAPH = """
<ir_version: 8, opset_import: ["" : 17]>
sums (float[T, B, 2] x, float[B, 2] bias, float[B, 2] s) => (float[T, B, 2] y, float[B, 2] s_out) {
    biased = Add(x, bias)
    zero = Constant<value = int64 {0}>()
    last = Constant<value = int64 {-1}>()
    sums = CumSum(biased, zero)
    y = Add(sums, s)
    s_out = Gather<axis = 0>(y, last)
}
"""
ROWS_AT_LEAST_TWO = GRAPH.replace(
    "zero = Constant",
    "two = Constant<value = int64[2] {2, 2}>() small = Reshape(s, two) zero = Constant",
).replace("y = Add(sums, s)", "whole = Add(sums, s) none = Sub(small, small) y = Add(whole, none)")


def load(folder: Path, text: str) -> Engine:
    onnx.save(onnx.parser.parse_model(text), folder / "model.onnx")
    return Engine(folder / "model.onnx", SPEC)


def one_row(value: float) -> tuple[list[np.ndarray], np.ndarray, list[np.ndarray]]:
    x = np.full((3, 1, 2), value, np.float32)
    return [x, np.ones((1, 2), np.float32)], np.array([3], np.int32), [np.zeros((1, 2), np.float32)]


def test_filling_up_makes_another_engine(tmp_path: Path) -> None:
    engine = load(tmp_path, GRAPH)
    filling = engine.with_minimum_rows(2)
    assert (engine.minimum_rows, filling.minimum_rows) == (1, 2)
    assert profile_engine(engine)[0].minimum_rows == 1
    for found in (engine, filling):
        (y,), (s,) = found.run(*one_row(2.0))
        assert y.tolist() == [[[3, 3]], [[6, 6]], [[9, 9]]]
        assert s.tolist() == [[9, 9]]


def test_a_graph_that_needs_two_rows_runs_one_when_filled_up(tmp_path: Path) -> None:
    engine = load(tmp_path, ROWS_AT_LEAST_TWO)
    with pytest.raises(EngineError):
        engine.run(*one_row(2.0))
    (y,), (s,) = engine.with_minimum_rows(2).run(*one_row(2.0))
    assert y.shape == (3, 1, 2)
    assert s.tolist() == [[9, 9]]
