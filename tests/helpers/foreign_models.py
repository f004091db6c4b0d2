"""Graphs as others make them: written with onnx alone, each with the model.toml that declares it.

And an oracle for each: the file itself, run for one session and one step at a time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
F, H = 3, 8
FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64


@dataclass(frozen=True)
class ForeignModel:
    """A graph, its model.toml, and what one step of one session is to the graph.

    Attributes:
        proto: The graph.
        toml: Its model.toml.
        samples: Shape of one sample of each input that a caller gives.
        feed: From the samples of one step to what the graph takes, without the state.
        state: Initial state by input, as the graph takes it for one session.
        successors: State outputs by state input.
        outputs: What the graph gives for a step, as a caller gets it.
    """

    proto: onnx.ModelProto
    toml: str
    samples: Mapping[str, tuple[int, ...]]
    feed: Callable[[Mapping[str, Array]], dict[str, Array]]
    state: Mapping[str, Array]
    successors: Mapping[str, str]
    outputs: Mapping[str, tuple[int, ...]]
    context: tuple[int, tuple[int, ...]] | None = None
    """How much the graph wants again in front of each sample, and a sample as a stretch of the stream."""
    dtypes: Mapping[str, str] = field(default_factory=dict)

    def publish(self, folder: Path, *, toml: str | None = None) -> None:
        """Writes the version folder."""
        folder.mkdir(parents=True)
        onnx.save(self.proto, folder / "model.onnx")
        text = self.toml if toml is None else toml
        if text:
            (folder / "model.toml").write_text(text)

    def alone(self, steps: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """One session's outputs, [T, ...], by running the file once a step."""
        session = ort.InferenceSession(self.proto.SerializeToString(), providers=["CPUExecutionProvider"])
        names = [*self.outputs, *self.successors.values()]
        state = dict(self.state)
        said: dict[str, list[Array]] = {name: [] for name in self.outputs}
        for step in self._with_context(steps):
            results = dict(zip(names, session.run(names, {**self.feed(step), **state}), strict=True))
            state = {before: results[after] for before, after in self.successors.items()}
            for name, shape in self.outputs.items():
                said[name].append(results[name].reshape(shape))
        return {name: np.stack(values) for name, values in said.items()}

    def _with_context(self, steps: Sequence[Mapping[str, Array]]) -> Iterator[Mapping[str, Array]]:
        if self.context is None:
            yield from steps
            return
        size, stretch = self.context
        (name,) = self.samples
        front = np.zeros((size, *stretch[1:]), np.float32)
        stream = np.concatenate([front, *(step[name].reshape(stretch) for step in steps)])
        for begin in range(0, len(steps) * stretch[0], stretch[0]):
            yield {name: stream[begin : begin + size + stretch[0]]}

    def draw(self, random: np.random.Generator, steps: int) -> list[dict[str, Array]]:
        """Samples of that many steps."""
        return [
            {name: self._sample(random, name, shape) for name, shape in self.samples.items()}
            for _ in range(steps)
        ]

    def _sample(self, random: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
        dtype = self.dtypes.get(name, "float32")
        if dtype.startswith("int"):
            return np.asarray(random.integers(0, 4, shape), dtype)
        return np.asarray(random.standard_normal(shape), dtype)


def tensor(name: str, shape: Sequence[int | str], dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def weights(seed: int, **shapes: tuple[int, ...]) -> list[onnx.TensorProto]:
    random = np.random.default_rng(seed)
    return [
        numpy_helper.from_array(random.uniform(-0.6, 0.6, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]


def constant(name: str, values: Any, dtype: str = "int64") -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def graph(nodes: Any, inputs: Any, outputs: Any, constants: Any) -> onnx.ModelProto:
    made = helper.make_graph(nodes, "foreign", inputs, outputs, initializer=constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


node = helper.make_node


def lstm() -> ForeignModel:
    """As PyTorch exports it: batch first, h and c of [layers, batch, hidden], no lengths."""
    nodes = [
        node("Transpose", ["x"], ["x_t"], perm=[1, 0, 2]),
        node("LSTM", ["x_t", "W", "R", "b", "", "h0", "c0"], ["Y", "hn", "cn"], hidden_size=H),
        node("Squeeze", ["Y", "one"], ["y_t"]),
        node("Transpose", ["y_t"], ["y"], perm=[1, 0, 2]),
    ]
    state = [1, "N", H]
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
    state = [1, "N", H]
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
    """A batch of any size whose rows have one rate."""
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
    buffer = ["B", 4, F]
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


def several() -> ForeignModel:
    """Tokens beside features, two outputs of different kinds, an output nobody asks for; no batch at all."""
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


def window() -> ForeignModel:
    """No state of its own: a convolution over the last four samples, of which three came before."""
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


def frame_with_context() -> ForeignModel:
    """A frame of four numbers wants the last two of the frame before in front; beside it a state."""
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
    """A causal convolution over any number of steps, that wants the two steps before in front."""
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


MODELS: dict[str, Callable[[], ForeignModel]] = {
    "lstm": lstm,
    "lengths": lstm_with_lengths,
    "two_kinds": two_kinds,
    "one_row": one_row_with_a_rate,
    "ring_buffer": ring_buffer,
    "half": half_precision,
    "several": several,
    "window": window,
    "frame": frame_with_context,
    "convolution": convolution,
}
