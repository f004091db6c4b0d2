"""Makes small ONNX graphs as other exporters write them, and runs them and the packages made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from statewise.export import read_package
from statewise.models.base import Array

INPUTS, HIDDEN = 3, 8
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


@dataclass
class ForeignGraph:
    """A graph, and its oracle: `run` runs the file itself."""

    model: onnx.ModelProto

    def save(self, path: Path) -> Path:
        path.write_bytes(self.model.SerializeToString())
        return path

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        session = onnxruntime.InferenceSession(
            self.model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return dict(
            zip([entry.name for entry in session.get_outputs()], session.run(None, feed), strict=True)
        )


def tensor(name: str, shape: Sequence[Any], dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def constant(name: str, *shape: int, seed: int = 0, values: Array | None = None) -> TensorProto:
    rng = np.random.default_rng([seed, *map(ord, name)])
    array = rng.uniform(-0.6, 0.6, shape).astype(np.float32) if values is None else np.asarray(values)
    return numpy_helper.from_array(array, name)


def make(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[TensorProto] = (),
    opset: int = 17,
    *,
    check: bool = True,
) -> ForeignGraph:
    graph = helper.make_graph(nodes, "foreign", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if check:
        onnx.checker.check_model(model, full_check=True)
    return ForeignGraph(model)


def lstm_weights() -> list[TensorProto]:
    return [
        constant("W", 1, 4 * HIDDEN, INPUTS),
        constant("R", 1, 4 * HIDDEN, HIDDEN),
        constant("b", 1, 8 * HIDDEN),
    ]


def batch_first_lstm(
    *,
    names: Sequence[str] = ("h0", "c0", "hn", "cn"),
    symbols: Sequence[str | None] = ("batch", "time"),
    opset: int = 17,
) -> ForeignGraph:
    """x [B, T, 3] as PyTorch's batch_first LSTM exports, states [1, B, 8]."""
    h0, c0, hn, cn = names
    B, T = symbols
    nodes = [
        helper.make_node("Transpose", ["x"], ["x_t"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM", ["x_t", "W", "R", "b", "", h0, c0], ["Y", hn, cn], hidden_size=HIDDEN, name="lstm"
        ),
        helper.make_node("Squeeze", ["Y", "one"], ["y_t"]),
        helper.make_node("Transpose", ["y_t"], ["y"], perm=[1, 0, 2]),
    ]
    state = [1, B, HIDDEN]
    return make(
        nodes,
        [tensor("x", [B, T, INPUTS]), tensor(h0, state), tensor(c0, state)],
        [tensor("y", [B, T, HIDDEN]), tensor(hn, state), tensor(cn, state)],
        [*lstm_weights(), constant("one", values=np.array([1]))],
        opset,
    )


def step_cell(x: str = "x", h: str = "hidden_in", y: str = "y", h2: str = "hidden_out") -> ForeignGraph:
    """One step, no time axis: h2 = tanh(x W + h R), y = h2 V."""
    nodes = [
        helper.make_node("MatMul", [x, "W"], ["a_"]),
        helper.make_node("MatMul", [h, "R"], ["r_"]),
        helper.make_node("Add", ["a_", "r_"], ["s_"]),
        helper.make_node("Tanh", ["s_"], [h2]),
        helper.make_node("MatMul", [h2, "V"], [y]),
    ]
    weights = [constant("W", INPUTS, HIDDEN), constant("R", HIDDEN, HIDDEN), constant("V", HIDDEN, 2)]
    return make(
        nodes,
        [tensor(x, ["N", INPUTS]), tensor(h, ["N", HIDDEN])],
        [tensor(y, ["N", 2]), tensor(h2, ["N", HIDDEN])],
        weights,
    )


def ring_buffer(names: Sequence[str] = ("buffer", "new_buffer")) -> ForeignGraph:
    """The mean of the last four samples, and the buffer that holds them: no recurrent operator at all."""
    before, after = names
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["x_row"]),
        helper.make_node("Concat", [before, "x_row"], ["joined"], axis=1),
        helper.make_node("Slice", ["joined", "one", "five", "one"], [after]),
        helper.make_node("ReduceMean", [after], ["y"], axes=[1], keepdims=0),
    ]
    constants = [constant("one", values=np.array([1])), constant("five", values=np.array([5]))]
    buffer = ["B", 4, INPUTS]
    return make(
        nodes,
        [tensor("x", ["B", INPUTS]), tensor(before, buffer)],
        [tensor("y", ["B", INPUTS]), tensor(after, buffer)],
        constants,
    )


def one_row_with_a_rate() -> ForeignGraph:
    """Batch fixed at 1, a chunk of samples [1, T], a scalar rate, and a state of two rows: h beside c."""
    nodes = [
        helper.make_node("Transpose", ["input"], ["column"], perm=[1, 0]),
        helper.make_node("Unsqueeze", ["column", "last"], ["x"]),
        helper.make_node("Cast", ["sr"], ["rate"], to=FLOAT),
        helper.make_node("Mul", ["x", "rate"], ["scaled"]),
        helper.make_node("Split", ["state"], ["h", "c"], axis=0),
        helper.make_node(
            "LSTM", ["scaled", "W", "R", "b", "", "h", "c"], ["", "h2", "c2"], hidden_size=HIDDEN
        ),
        helper.make_node("Concat", ["h2", "c2"], ["stateN"], axis=0),
        helper.make_node("ReduceMean", ["h2"], ["output"], axes=[0, 2], keepdims=0),
    ]
    weights = [
        constant("W", 1, 4 * HIDDEN, 1),
        constant("R", 1, 4 * HIDDEN, HIDDEN),
        constant("b", 1, 8 * HIDDEN),
        constant("last", values=np.array([2])),
    ]
    return make(
        nodes,
        [tensor("input", [1, "samples"]), tensor("state", [2, 1, HIDDEN]), tensor("sr", [], INT64)],
        [tensor("output", [1]), tensor("stateN", [2, 1, HIDDEN])],
        weights,
    )


def scan() -> ForeignGraph:
    """A carried sum in a Scan over time, as Keras's recurrent layers export; names without meaning."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["step", "W"], ["a"]),
            helper.make_node("Add", ["a", "carried"], ["next_"]),
            helper.make_node("Tanh", ["next_"], ["kept"]),
            helper.make_node("Identity", ["kept"], ["said"]),
        ],
        "body",
        [tensor("carried", ["B", HIDDEN]), tensor("step", ["B", INPUTS])],
        [tensor("kept", ["B", HIDDEN]), tensor("said", ["B", HIDDEN])],
    )
    nodes = [helper.make_node("Scan", ["q", "x"], ["z", "y"], body=body, num_scan_inputs=1, name="scan")]
    return make(
        nodes,
        [tensor("x", ["T", "B", INPUTS]), tensor("q", ["B", HIDDEN])],
        [tensor("y", ["T", "B", HIDDEN]), tensor("z", ["B", HIDDEN])],
        [constant("W", INPUTS, HIDDEN)],
    )


def loop() -> ForeignGraph:
    """The same in a Loop over steps."""
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["x", "i"], ["step"], axis=0),
            helper.make_node("MatMul", ["step", "W"], ["a"]),
            helper.make_node("Add", ["a", "carried"], ["next_"]),
            helper.make_node("Tanh", ["next_"], ["kept"]),
            helper.make_node("Identity", ["kept"], ["said"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [
            tensor("i", [], INT64),
            tensor("go", [], TensorProto.BOOL),
            tensor("carried", ["B", HIDDEN]),
        ],
        [tensor("go_on", [], TensorProto.BOOL), tensor("kept", ["B", HIDDEN]), tensor("said", ["B", HIDDEN])],
    )
    nodes = [
        helper.make_node("Shape", ["x"], ["T_row"], start=0, end=1),
        helper.make_node("Squeeze", ["T_row"], ["T"]),
        helper.make_node("Loop", ["T", "", "q"], ["z", "y"], body=body, name="loop"),
    ]
    return make(
        nodes,
        [tensor("x", ["T", "B", INPUTS]), tensor("q", ["B", HIDDEN])],
        [tensor("y", ["T", "B", HIDDEN]), tensor("z", ["B", HIDDEN])],
        [constant("W", INPUTS, HIDDEN)],
    )


def two_kinds_of_state() -> ForeignGraph:
    """A float state with rows first and a counter with rows last; one step."""
    nodes = [
        helper.make_node("Add", ["x", "total_in"], ["total_out"]),
        helper.make_node("Add", ["count_in", "one"], ["count_out"]),
        helper.make_node("Transpose", ["count_out"], ["column"], perm=[1, 0]),
        helper.make_node("Cast", ["column"], ["number"], to=FLOAT),
        helper.make_node("Div", ["total_out", "number"], ["mean"]),
    ]
    return make(
        nodes,
        [tensor("x", ["B", INPUTS]), tensor("total_in", ["B", INPUTS]), tensor("count_in", [1, "B"], INT64)],
        [
            tensor("mean", ["B", INPUTS]),
            tensor("total_out", ["B", INPUTS]),
            tensor("count_out", [1, "B"], INT64),
        ],
        [constant("one", values=np.array([[1]]))],
    )


def hidden_lstm(*, zeros: bool = True, direction: str = "forward") -> ForeignGraph:
    """An LSTM whose initial zeros are computed in the graph, and whose final state is dropped."""
    nodes = [
        helper.make_node("Shape", ["x"], ["rows"], start=1, end=2),
        helper.make_node("Concat", ["first", "rows", "last"], ["shape"], axis=0),
        helper.make_node(
            "ConstantOfShape",
            ["shape"],
            ["start"],
            value=numpy_helper.from_array(np.array([0 if zeros else 1], np.float32)),
        ),
        helper.make_node(
            "LSTM",
            ["x", "W", "R", "b", "", "start", "start"],
            ["Y"],
            hidden_size=HIDDEN,
            direction=direction,
            name="lstm",
        ),
        helper.make_node("Squeeze", ["Y", "first"], ["y"]),
    ]
    shapes = [constant("first", values=np.array([1])), constant("last", values=np.array([HIDDEN]))]
    return make(
        nodes,
        [tensor("x", ["T", "B", INPUTS])],
        [tensor("y", ["T", "B", HIDDEN])],
        [*lstm_weights(), *shapes],
    )


def lstm_with_state(direction: str, *, flipped: bool = False) -> ForeignGraph:
    """x [T, B, 3] and states [D, B, 8] through an LSTM; flipped: after a Slice from the end to the
    beginning."""
    directions = 2 if direction == "bidirectional" else 1
    state = [directions, "B", HIDDEN]
    source = "reversed" if flipped else "x"
    nodes = [
        helper.make_node(
            "LSTM",
            [source, "W", "R", "b", "", "h0", "c0"],
            ["Y", "hn", "cn"],
            hidden_size=HIDDEN,
            direction=direction,
        ),
        helper.make_node("Transpose", ["Y"], ["yt"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["yt", "flat"], ["y"]),
    ]
    if flipped:
        nodes.insert(0, helper.make_node("Slice", ["x", "end", "begin", "axis", "minus"], ["reversed"]))
    weights = [
        constant("W", directions, 4 * HIDDEN, INPUTS),
        constant("R", directions, 4 * HIDDEN, HIDDEN),
        constant("b", directions, 8 * HIDDEN),
    ]
    numbers = {"flat": [0, 0, -1], "end": [-1], "begin": [-(2**62)], "axis": [0], "minus": [-1]}
    return make(
        nodes,
        [tensor("x", ["T", "B", INPUTS]), tensor("h0", state), tensor("c0", state)],
        [tensor("y", ["T", "B", directions * HIDDEN]), tensor("hn", state), tensor("cn", state)],
        [*weights, *(constant(name, values=np.array(values)) for name, values in numbers.items())],
    )


def two_sums() -> ForeignGraph:
    """Two inputs and two outputs of one shape, so only a declaration separates state from data."""
    nodes = [helper.make_node("Add", ["a", "b"], ["c"]), helper.make_node("Sub", ["a", "b"], ["d"])]
    vectors = ["B", 4]
    return make(
        nodes, [tensor("a", vectors), tensor("b", vectors)], [tensor("c", vectors), tensor("d", vectors)]
    )


def run_package(package: Path, x: Array, state: list[Array] | None = None) -> tuple[Array, list[Array]]:
    """x [T, B, ...] through the package's graph: y and the states after it."""
    session = onnxruntime.InferenceSession(package / "model.onnx", providers=["CPUExecutionProvider"])
    spec = read_package(package).spec
    states = state or [np.zeros((x.shape[1], *pair.shape), pair.dtype) for pair in spec.state]
    feed = {spec.inputs[0].name: x} | {p.input: s for p, s in zip(spec.state, states, strict=True)}
    y, *after = session.run([spec.outputs[0].name] + [pair.output for pair in spec.state], feed)
    return y, after


def pieces(package: Path, x: Array) -> tuple[list[Array], list[Array] | None]:
    """As `run_package`, in pieces of 1, 2 and the remaining steps."""
    state, outputs = None, []
    for part in (x[:1], x[1:3], x[3:]):
        y, state = run_package(package, part, state)
        outputs.append(y)
    return outputs, state


def sequence(rows: int = 4, steps: int = 6, features: int = INPUTS) -> Array:
    return np.random.default_rng(0).standard_normal((steps, rows, features)).astype(np.float32)
