"""Builds graphs with unusual inputs and states: one row, shared inputs, a ring buffer, several of each."""

import numpy as np
from tests.helpers.models.foreign.model import (
    FLOAT,
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


def one_row_with_a_rate() -> ForeignModel:
    """A batch fixed at 1, h beside c in one state, and a scalar that is the same for every row."""
    nodes = [
        node("Cast", ["sr"], ["rate"], to=FLOAT),
        node("Div", ["frame", "rate"], ["scaled"]),
        node("Unsqueeze", ["scaled", "zero"], ["x"]),
        node("Split", ["state"], ["h", "c"], axis=0),
        node("LSTM", ["x", "W", "R", "b", "", "h", "c"], ["", "h2", "c2"], hidden_size=H),
        node("Concat", ["h2", "c2"], ["stateN"], axis=0),
        node("ReduceMean", ["h2"], ["speech"], axes=[0, 2], keepdims=0),
    ]
    made = graph(
        nodes,
        [tensor("frame", [1, F]), tensor("state", [2, 1, H]), tensor("sr", [], INT64)],
        [tensor("speech", [1]), tensor("stateN", [2, 1, H])],
        [*weights(2, W=(1, 4 * H, F), R=(1, 4 * H, H), b=(1, 8 * H)), constant("zero", [0])],
    )
    return ForeignModel(
        made,
        """
        [[inputs]]
        name = "frame"
        axes = ["batch", 3]
        [[inputs]]
        name = "sr"
        default = 2
        [[outputs]]
        name = "speech"
        axes = ["batch"]
        [[state]]
        input = "state"
        output = "stateN"
        axes = [2, "batch", 8]
        """,
        {"frame": (F,)},
        lambda step: {"frame": step["frame"][None], "sr": step.get("sr", np.array(2))},
        {"state": np.zeros((2, 1, H), np.float32)},
        {"state": "stateN"},
        {"speech": ()},
    )


def shared_rate() -> ForeignModel:
    """A batch of any size; all rows share one rate."""
    nodes = [node("Mul", ["x", "rate"], ["scaled"]), node("Add", ["scaled", "s"], ["s_out"])]
    nodes.append(node("Tanh", ["s_out"], ["y"]))
    made = graph(
        nodes,
        [tensor("x", ["batch", F]), tensor("s", ["batch", F]), tensor("rate", [1])],
        [tensor("y", ["batch", F]), tensor("s_out", ["batch", F])],
        [],
    )
    return ForeignModel(
        made,
        """
        [[inputs]]
        name = "rate"
        axes = [1]
        default = 7
        [[state]]
        input = "s"
        output = "s_out"
        """,
        {"x": (F,)},
        lambda step: {"x": step["x"][None], "rate": np.reshape(step["rate"], 1)},
        {"s": np.zeros((1, F), np.float32)},
        {"s": "s_out"},
        {"y": (F,)},
    )


def ring_buffer() -> ForeignModel:
    """The mean of the last four samples; the buffer that holds them is the state."""
    nodes = [
        node("Unsqueeze", ["x", "one"], ["row"]),
        node("Concat", ["buffer", "row"], ["joined"], axis=1),
        node("Slice", ["joined", "one", "five", "one"], ["buffer_out"]),
        node("ReduceMean", ["buffer_out"], ["y"], axes=[1], keepdims=0),
    ]
    buffer: list[int | str] = ["B", 4, F]
    made = graph(
        nodes,
        [tensor("x", ["B", F]), tensor("buffer", buffer)],
        [tensor("y", ["B", F]), tensor("buffer_out", buffer)],
        [constant("one", [1]), constant("five", [5])],
    )
    return ForeignModel(
        made,
        # The graph calls its batch axis B, which is name enough.
        """
        [[state]]
        input = "buffer"
        output = "buffer_out"
        """,
        {"x": (F,)},
        lambda step: {"x": step["x"][None]},
        {"buffer": np.zeros((1, 4, F), np.float32)},
        {"buffer": "buffer_out"},
        {"y": (F,)},
    )


def several() -> ForeignModel:
    """Tokens beside features, outputs of two kinds and one that is not asked for; no batch axis."""
    nodes = [
        node("Gather", ["table", "token"], ["row"], axis=0),
        node("Add", ["row", "x"], ["sum"]),
        node("Add", ["sum", "s"], ["s_out"]),
        node("Tanh", ["s_out"], ["y"]),
        node("ArgMax", ["s_out"], ["likeliest"], axis=0, keepdims=0),
        node("ReduceSum", ["s_out"], ["diagnostic"], keepdims=0),
    ]
    made = graph(
        nodes,
        [tensor("x", [F]), tensor("token", [], INT64), tensor("s", [F])],
        [tensor("y", [F]), tensor("likeliest", [], INT64), tensor("diagnostic", []), tensor("s_out", [F])],
        weights(4, table=(4, F)),
    )
    return ForeignModel(
        made,
        """
        [[inputs]]
        name = "token"
        vocabulary_size = 4
        [[outputs]]
        name = "y"
        [[outputs]]
        name = "likeliest"
        [[state]]
        input = "s"
        output = "s_out"
        """,
        {"x": (F,), "token": ()},
        dict,
        {"s": np.zeros(F, np.float32)},
        {"s": "s_out"},
        {"y": (F,), "likeliest": ()},
        dtypes={"token": "int64"},
    )
