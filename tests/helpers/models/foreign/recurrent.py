"""Builds recurrent graphs as others export them: LSTMs, and states of two kinds and of half precision."""

import numpy as np
from onnx import TensorProto
from tests.helpers.models.foreign.model import (
    FLOAT,
    HALF,
    INT64,
    F,
    ForeignModel,
    H,
    constant,
    graph,
    node,
    tensor,
    weights,
)


def lstm() -> ForeignModel:
    """An LSTM as PyTorch exports it: batch first, h and c of [layers, batch, hidden], no lengths."""
    nodes = [
        node("Transpose", ["x"], ["x_t"], perm=[1, 0, 2]),
        node("LSTM", ["x_t", "W", "R", "b", "", "h0", "c0"], ["Y", "hn", "cn"], hidden_size=H),
        node("Squeeze", ["Y", "one"], ["y_t"]),
        node("Transpose", ["y_t"], ["y"], perm=[1, 0, 2]),
    ]
    state: list[int | str] = [1, "N", H]
    made = graph(
        nodes,
        [tensor("x", ["N", "L", F]), tensor("h0", state), tensor("c0", state)],
        [tensor("y", ["N", "L", H]), tensor("hn", state), tensor("cn", state)],
        [*weights(1, W=(1, 4 * H, F), R=(1, 4 * H, H), b=(1, 8 * H)), constant("one", [1])],
    )
    return ForeignModel(
        made,
        """
        [[inputs]]
        name = "x"
        axes = ["batch", "time", 3]
        [[outputs]]
        name = "y"
        axes = ["batch", "time", 8]
        [[state]]
        input = "h0"
        output = "hn"
        axes = [1, "batch", 8]
        [[state]]
        input = "c0"
        output = "cn"
        axes = [1, "batch", 8]
        """,
        {"x": (F,)},
        lambda step: {"x": step["x"][None, None]},
        {"h0": np.zeros((1, 1, H), np.float32), "c0": np.zeros((1, 1, H), np.float32)},
        {"h0": "hn", "c0": "cn"},
        {"y": (H,)},
    )


def lstm_with_lengths() -> ForeignModel:
    """Time first and rows of unequal length, whose number of steps is an int64."""
    nodes = [
        node("Cast", ["n"], ["n32"], to=TensorProto.INT32),
        node("LSTM", ["x", "W", "R", "b", "n32", "h0", "c0"], ["Y", "hn", "cn"], hidden_size=H),
        node("Squeeze", ["Y", "one"], ["y"]),
    ]
    state: list[int | str] = [1, "N", H]
    made = graph(
        nodes,
        [tensor("x", ["T", "B", F]), tensor("n", ["B"], INT64), tensor("h0", state), tensor("c0", state)],
        [tensor("y", ["T", "B", H]), tensor("hn", state), tensor("cn", state)],
        [*weights(6, W=(1, 4 * H, F), R=(1, 4 * H, H), b=(1, 8 * H)), constant("one", [1])],
    )
    return ForeignModel(
        made,
        """
        lengths = "n"
        [[state]]
        input = "h0"
        output = "hn"
        axes = [1, "batch", 8]
        [[state]]
        input = "c0"
        output = "cn"
        shape = [1, 8]
        batch_axis = 1
        """,
        {"x": (F,)},
        lambda step: {"x": step["x"][None, None], "n": np.array([1])},
        {"h0": np.zeros((1, 1, H), np.float32), "c0": np.zeros((1, 1, H), np.float32)},
        {"h0": "hn", "c0": "cn"},
        {"y": (H,)},
    )


def two_kinds() -> ForeignModel:
    """One step a run; a float32 sum with rows first and an int64 counter with rows last."""
    nodes = [
        node("Add", ["x", "total"], ["total_out"]),
        node("Add", ["count", "one"], ["count_out"]),
        node("Transpose", ["count_out"], ["column"], perm=[1, 0]),
        node("Cast", ["column"], ["number"], to=FLOAT),
        node("Div", ["total_out", "number"], ["mean"]),
    ]
    made = graph(
        nodes,
        [tensor("x", ["rows", F]), tensor("total", ["rows", F]), tensor("count", [1, "rows"], INT64)],
        [
            tensor("mean", ["rows", F]),
            tensor("total_out", ["rows", F]),
            tensor("count_out", [1, "rows"], INT64),
        ],
        [constant("one", [[1]])],
    )
    return ForeignModel(
        made,
        """
        [[inputs]]
        name = "x"
        axes = ["batch", 3]
        [[outputs]]
        name = "mean"
        axes = ["batch", 3]
        [[state]]
        input = "total"
        output = "total_out"
        axes = ["batch", 3]
        [[state]]
        input = "count"
        output = "count_out"
        axes = [1, "batch"]
        initial = 2
        """,
        {"x": (F,)},
        lambda step: {"x": step["x"][None]},
        {"total": np.zeros((1, F), np.float32), "count": np.full((1, 1), 2, np.int64)},
        {"total": "total_out", "count": "count_out"},
        {"mean": (F,)},
    )


def half_precision() -> ForeignModel:
    """A float16 state and a time axis fixed at one step, behind the batch axis."""
    nodes = [
        node("Cast", ["x"], ["x16"], to=HALF),
        node("Mul", ["s", "half"], ["faded"]),
        node("Transpose", ["faded"], ["rows"], perm=[1, 0]),
        node("Unsqueeze", ["rows", "one"], ["as_step"]),
        node("Add", ["x16", "as_step"], ["sum"]),
        node("Squeeze", ["sum", "one"], ["after"]),
        node("Transpose", ["after"], ["s_out"], perm=[1, 0]),
        node("Cast", ["sum"], ["y"], to=FLOAT),
    ]
    made = graph(
        nodes,
        [tensor("x", ["B", 1, F]), tensor("s", [F, "B"], HALF)],
        [tensor("y", ["B", 1, F]), tensor("s_out", [F, "B"], HALF)],
        [constant("half", [[0.5]], "float16"), constant("one", [1])],
    )
    return ForeignModel(
        made,
        """
        [[inputs]]
        name = "x"
        axes = ["batch", "time", 3]
        [[outputs]]
        name = "y"
        axes = ["batch", "time", 3]
        [[state]]
        input = "s"
        output = "s_out"
        axes = [3, "batch"]
        initial = 0.25
        """,
        {"x": (F,)},
        lambda step: {"x": step["x"][None, None]},
        {"s": np.full((F, 1), 0.25, np.float16)},
        {"s": "s_out"},
        {"y": (F,)},
    )
