"""Builds graphs that read a window of the stream: the server puts earlier samples in front of each step."""

import numpy as np
from tests.helpers.models.foreign.model import F, ForeignModel, constant, graph, node, tensor, weights


def window() -> ForeignModel:
    """A convolution over the last four samples, without a state."""
    nodes = [
        node("Mul", ["x", "kernel"], ["weighed"]),
        node("ReduceSum", ["weighed", "one"], ["y"], keepdims=0),
    ]
    made = graph(
        nodes,
        [tensor("x", ["B", 4, F])],
        [tensor("y", ["B", F])],
        [*weights(5, kernel=(1, 4, F)), constant("one", [1])],
    )
    return ForeignModel(
        made,
        """
        [[inputs]]
        name = "x"
        axes = ["batch", "time", 3]
        context = 3
        """,
        {"x": (F,)},
        lambda step: {"x": step["x"][None]},
        {},
        {},
        {"y": (F,)},
        context=(3, (1, F)),
    )


def overlapping_windows() -> ForeignModel:
    """Windows of five samples that advance by two: a sum over each window, weighed, without a state."""
    nodes = [
        node("Mul", ["x", "kernel"], ["weighed"]),
        node("ReduceSum", ["weighed", "one"], ["y"], keepdims=0),
    ]
    made = graph(
        nodes,
        [tensor("x", ["B", 5, F])],
        [tensor("y", ["B", F])],
        [*weights(6, kernel=(1, 5, F)), constant("one", [1])],
    )
    return ForeignModel(
        made,
        """
        [[inputs]]
        name = "x"
        axes = ["batch", "time", 3]
        hop = 2
        """,
        {"x": (2, F)},
        lambda step: {"x": step["x"][None]},
        {},
        {},
        {"y": (F,)},
        context=(3, (2, F)),
    )


def frame_with_context() -> ForeignModel:
    """A frame of four numbers with the last two of the frame before in front; the graph also has a state."""
    nodes = [
        node("ReduceMean", ["frame"], ["mean"], axes=[1], keepdims=1),
        node("Add", ["mean", "s"], ["s_out"]),
        node("Sub", ["frame", "s_out"], ["y"]),
    ]
    made = graph(
        nodes,
        [tensor("frame", ["batch", 6]), tensor("s", ["batch", 1])],
        [tensor("y", ["batch", 6]), tensor("s_out", ["batch", 1])],
        [],
    )
    return ForeignModel(
        made,
        """
        [[inputs]]
        name = "frame"
        context = 2
        [[state]]
        input = "s"
        output = "s_out"
        """,
        {"frame": (4,)},
        lambda step: {"frame": step["frame"].reshape(1, -1)},
        {"s": np.zeros((1, 1), np.float32)},
        {"s": "s_out"},
        {"y": (6,)},
        context=(2, (4,)),
    )


def convolution() -> ForeignModel:
    """A causal convolution over any number of steps, with the two steps before in front."""
    nodes = [
        node("Slice", ["x", "i0", "m2", "axis"], ["older"]),
        node("Slice", ["x", "i1", "m1", "axis"], ["old"]),
        node("Slice", ["x", "i2", "far", "axis"], ["now"]),
        node("Sub", ["now", "old"], ["difference"]),
        node("Add", ["difference", "older"], ["y"]),
    ]
    made = graph(
        nodes,
        [tensor("x", ["batch", "time", F])],
        [tensor("y", ["batch", "valid", F])],
        [
            *(constant(f"i{number}", [number]) for number in range(3)),
            *(
                constant(name, [number])
                for name, number in (("m1", -1), ("m2", -2), ("far", 2**62), ("axis", 1))
            ),
        ],
    )
    return ForeignModel(
        made,
        """
        [[inputs]]
        name = "x"
        context = 2
        [[outputs]]
        name = "y"
        axes = ["batch", "time", 3]
        """,
        {"x": (F,)},
        lambda step: {"x": step["x"][None]},
        {},
        {},
        {"y": (F,)},
        context=(2, (1, F)),
    )
