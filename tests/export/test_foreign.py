"""Graphs of others: the oracle is the foreign file itself, run in onnxruntime one sequence at a time."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from statewise.export import Exactness, SourceError, import_onnx, read_package, verify_package
from statewise.wire import ModelSpec

INPUTS, HIDDEN = 3, 8
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


@dataclass
class Foreign:
    """A graph with its oracle: `step` of one sequence runs the file itself."""

    model: onnx.ModelProto

    def save(self, path):
        path.write_bytes(self.model.SerializeToString())
        return path

    def run(self, feed):
        session = onnxruntime.InferenceSession(
            self.model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return dict(
            zip([entry.name for entry in session.get_outputs()], session.run(None, feed), strict=True)
        )


def tensor(name, shape, dtype=FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def constant(name, *shape, seed=0, values=None):
    rng = np.random.default_rng([seed, *map(ord, name)])
    array = rng.uniform(-0.6, 0.6, shape).astype(np.float32) if values is None else np.asarray(values)
    return numpy_helper.from_array(array, name)


def make(nodes, inputs, outputs, constants=(), opset=17):
    graph = helper.make_graph(nodes, "foreign", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return Foreign(model)


def lstm_weights():
    return [
        constant("W", 1, 4 * HIDDEN, INPUTS),
        constant("R", 1, 4 * HIDDEN, HIDDEN),
        constant("b", 1, 8 * HIDDEN),
    ]


def batch_first_lstm(*, names=("h0", "c0", "hn", "cn"), symbols=("batch", "time"), opset=17):
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


def step_cell():
    """One step, no time axis: h' = tanh(x W + h R), y = h' V."""
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["a"]),
        helper.make_node("MatMul", ["hidden_in", "R"], ["r"]),
        helper.make_node("Add", ["a", "r"], ["s"]),
        helper.make_node("Tanh", ["s"], ["hidden_out"]),
        helper.make_node("MatMul", ["hidden_out", "V"], ["y"]),
    ]
    weights = [constant("W", INPUTS, HIDDEN), constant("R", HIDDEN, HIDDEN), constant("V", HIDDEN, 2)]
    return make(
        nodes,
        [tensor("x", ["N", INPUTS]), tensor("hidden_in", ["N", HIDDEN])],
        [tensor("y", ["N", 2]), tensor("hidden_out", ["N", HIDDEN])],
        weights,
    )


def ring_buffer(names=("buffer", "new_buffer")):
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


def one_row_with_a_rate():
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


def scan(operator="Scan"):
    """A carried sum in a Scan over time, as Keras's recurrent layers export; names that say nothing."""
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


def loop():
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


def two_kinds_of_state():
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


def run_package(package, x, state=None):
    """x [T, B, ...] through the package's graph: y and the states after it."""
    session = onnxruntime.InferenceSession(package / "model.onnx", providers=["CPUExecutionProvider"])
    spec = read_package(package).spec
    states = state or [np.zeros((x.shape[1], *pair.shape), pair.dtype) for pair in spec.state]
    feed = {spec.inputs[0].name: x} | {p.input: s for p, s in zip(spec.state, states, strict=True)}
    y, *after = session.run([spec.outputs[0].name] + [pair.output for pair in spec.state], feed)
    return y, after


def pieces(package, x):
    """As `run_package`, in pieces of 1, 2 and the remaining steps."""
    state, outputs = None, []
    for part in (x[:1], x[1:3], x[3:]):
        y, state = run_package(package, part, state)
        outputs.append(y)
    return outputs, state


def sequence(rows=4, steps=6, features=INPUTS):
    return np.random.default_rng(0).standard_normal((steps, rows, features)).astype(np.float32)


@pytest.mark.parametrize("symbols", [("batch", "time"), (None, None)], ids=["named", "unnamed"])
@pytest.mark.parametrize("names", [("h0", "c0", "hn", "cn"), ("p", "q", "lstm_1", "lstm_2")], ids=str)
def test_a_batch_first_lstm(tmp_path, names, symbols):
    foreign = batch_first_lstm(names=names, symbols=symbols)
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")
    x = sequence()

    y, (state,) = run_package(package, x)

    for row in range(4):
        zeros = np.zeros((1, 1, HIDDEN), np.float32)
        alone = foreign.run({"x": x[:, row][None], names[0]: zeros, names[1]: zeros})
        np.testing.assert_array_equal(y[:, row], alone["y"][0])
        np.testing.assert_array_equal(
            state[row], np.concatenate([alone[names[2]].ravel(), alone[names[3]].ravel()])
        )
    assert package == tmp_path / "repository" / "m" / "1"
    report = verify_package(package)
    assert report.passed, report.checks
    assert report.exactness is Exactness.EXACT


@pytest.mark.parametrize("make_graph", [scan, loop])
def test_state_carried_by_a_scan_or_loop(tmp_path, make_graph):
    foreign = make_graph()
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")
    x = sequence()

    y, (state,) = run_package(package, x)
    parts, state_of_parts = pieces(package, x)

    expected = foreign.run({"x": x, "q": np.zeros((4, HIDDEN), np.float32)})
    np.testing.assert_array_equal(y, expected["y"])
    np.testing.assert_array_equal(state, expected["z"])
    np.testing.assert_allclose(np.concatenate(parts), y, atol=1e-6)
    np.testing.assert_allclose(state_of_parts[0], state, atol=1e-6)


def test_a_cell_of_one_step_gets_a_time_axis(tmp_path):
    foreign = step_cell()
    package = import_onnx(foreign.save(tmp_path / "cell.onnx"), tmp_path / "repository")
    x = sequence()

    y, (state,) = run_package(package, x)

    hidden = np.zeros((4, HIDDEN), np.float32)
    for t in range(6):
        said = foreign.run({"x": x[t], "hidden_in": hidden})
        hidden = said["hidden_out"]
        np.testing.assert_allclose(y[t], said["y"], atol=1e-6)
    np.testing.assert_allclose(state, hidden, atol=1e-6)
    assert verify_package(package).passed


@pytest.mark.parametrize("names", [("buffer", "new_buffer"), ("p", "q")], ids=["alike-in-name", "by-shape"])
def test_a_ring_buffer_is_a_state_too(tmp_path, names):
    foreign = ring_buffer(names)
    declared = {} if names[0] == "buffer" else {"p": "q"}
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository", state=declared)
    x = sequence()

    y, (state,) = run_package(package, x)

    np.testing.assert_allclose(y[5], x[2:6].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(y[0], x[0] / 4, atol=1e-6)
    np.testing.assert_array_equal(state.reshape(4, 4, INPUTS), x[2:].swapaxes(0, 1))
    assert verify_package(package).passed


def test_a_graph_of_one_row_serves_many(tmp_path):
    foreign = one_row_with_a_rate()
    file = foreign.save(tmp_path / "vad.onnx")
    package = import_onnx(file, tmp_path / "repository", constants={"sr": 2})
    x = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)

    y, (state,) = run_package(package, x)

    for row in range(3):
        zeros = np.zeros((2, 1, HIDDEN), np.float32)
        alone = foreign.run({"input": x[:, row][None], "state": zeros, "sr": np.array(2)})
        np.testing.assert_array_equal(y[row], alone["output"].reshape(y[row].shape))
        np.testing.assert_array_equal(state[row], alone["stateN"].ravel())
    assert verify_package(package).exactness is Exactness.EXACT


def test_two_states_of_different_kinds_with_rows_on_different_axes(tmp_path):
    package = import_onnx(two_kinds_of_state().save(tmp_path / "m.onnx"), tmp_path / "repository")
    x = sequence()

    y, (total, count) = run_package(package, x)

    np.testing.assert_allclose(y, np.cumsum(x, axis=0) / np.arange(1, 7)[:, None, None], atol=1e-5)
    np.testing.assert_allclose(total, x.sum(axis=0), atol=1e-5)
    assert count.tolist() == [[6]] * 4


def test_lengths_are_found_and_kept(tmp_path):
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "b", "n", "h", "c"], ["Y", "h2", "c2"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["Y", "one"], ["y"]),
    ]
    state = [1, "B", HIDDEN]
    foreign = make(
        nodes,
        [
            tensor("x", ["T", "B", INPUTS]),
            tensor("n", ["B"], TensorProto.INT32),
            tensor("h", state),
            tensor("c", state),
        ],
        [tensor("y", ["T", "B", HIDDEN]), tensor("h2", state), tensor("c2", state)],
        [*lstm_weights(), constant("one", values=np.array([1]))],
    )
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")

    assert read_package(package).spec.lengths == "lengths"
    assert verify_package(package).passed


def test_the_package_says_what_was_found_and_why(tmp_path):
    package = import_onnx(batch_first_lstm().save(tmp_path / "m.onnx"), tmp_path / "repository")
    text = (package / "model.toml").read_text()

    assert ModelSpec.from_toml(text) == read_package(package).spec
    assert "# state h0 -> hn: starts lstm, whose end the output is; begins as zeros\n" in text
    assert "# input x ['batch', 'time', 3]: time is axis 1, batch is axis 0\n" in text


def test_an_older_opset_is_converted(tmp_path):
    graph = batch_first_lstm(opset=13)
    package = import_onnx(graph.save(tmp_path / "m.onnx"), tmp_path / "repository")

    assert verify_package(package).passed


def hidden_lstm(*, zeros=True, direction="forward"):
    """An LSTM started by zeros made for the occasion, its final state dropped."""
    nodes = [
        helper.make_node("Shape", ["x"], ["rows"], start=1, end=2),
        helper.make_node("Concat", ["first", "rows", "last"], ["shape"], axis=0),
        helper.make_node(
            "ConstantOfShape",
            ["shape"],
            ["start"],
            value=numpy_helper.from_array(np.float32([0 if zeros else 1])),
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


def test_hidden_state_can_be_exposed(tmp_path):
    foreign = hidden_lstm()
    file = foreign.save(tmp_path / "m.onnx")
    package = import_onnx(file, tmp_path / "repository", expose_state=True)
    x = sequence()

    y, _ = run_package(package, x)
    parts, _ = pieces(package, x)

    np.testing.assert_array_equal(y, foreign.run({"x": x})["y"])
    np.testing.assert_array_equal(np.concatenate(parts), y)
    assert verify_package(package).exactness is Exactness.EXACT
    operators = [node.op_type for node in read_package(package).files["model.onnx"].model.graph.node]
    assert "ConstantOfShape" not in operators


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"zeros": False}, "lstm: expected a start from zeros"),
        ({"direction": "reverse"}, "lstm: expected an operator that reads forwards"),
    ],
)
def test_what_cannot_be_exposed_is_said(tmp_path, options, complaint):
    with pytest.raises(SourceError, match=complaint):
        import_onnx(hidden_lstm(**options).save(tmp_path / "m.onnx"), tmp_path / "r", expose_state=True)


def two_sums():
    nodes = [helper.make_node("Add", ["a", "b"], ["c"]), helper.make_node("Sub", ["a", "b"], ["d"])]
    vectors = ["B", 4]
    return make(
        nodes, [tensor("a", vectors), tensor("b", vectors)], [tensor("c", vectors), tensor("d", vectors)]
    )


@pytest.mark.parametrize(
    ("make_graph", "options", "complaint"),
    [
        (
            two_sums,
            {},
            r"a could go on as c or d; b could go on as c or d; declare it \(--state INPUT=OUTPUT\)",
        ),
        (lambda: ring_buffer(("p", "q")), {}, "x could go on as y; p could go on as q; declare it"),
        (
            hidden_lstm,
            {},
            r"no state found: .*x \['T', 'B', 3\]; y \['T', 'B', 8\].*expose it \(--expose-state\)",
        ),
        (
            one_row_with_a_rate,
            {"constants": {"rate": 1}},
            "constant 'rate': expected one of 'input', 'state', 'sr'",
        ),
        (two_sums, {"state": {"a": "e"}}, "state 'e': expected one of 'c', 'd'"),
        (two_sums, {"expose_state": True}, "expected an RNN, LSTM or GRU operator"),
        (two_sums, {"state": {"a": "c", "b": "d"}}, "expected an input and an output beside the state"),
    ],
)
def test_what_the_graph_does_not_say_is_refused_with_what_was_seen(tmp_path, make_graph, options, complaint):
    with pytest.raises(SourceError, match=complaint):
        import_onnx(make_graph().save(tmp_path / "m.onnx"), tmp_path / "repository", **options)
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("hidden", "new_hidden"),
        ("state_in", "state_out"),
        ("prevCache", "nextCache"),
        ("h0", "hn"),
        ("h", "h_1"),
    ],
)
def test_names_that_are_alike(tmp_path, before, after):
    """Data are alike in shape here, and called input and output."""
    nodes = [
        helper.make_node("Add", ["input", before], [after]),
        helper.make_node("Tanh", [after], ["output"]),
    ]
    vectors = ["B", 4]
    foreign = make(
        nodes,
        [tensor("input", vectors), tensor(before, vectors)],
        [tensor("output", vectors), tensor(after, vectors)],
    )
    spec = read_package(import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")).spec

    assert [entry.name for entry in spec.inputs + spec.outputs] == ["input", "output"]
    assert [part.name for part in spec.state[0].parts] == [before]


def test_a_declaration_decides(tmp_path):
    package = import_onnx(two_sums().save(tmp_path / "m.onnx"), tmp_path / "repository", state={"b": "d"})
    found: Any = read_package(package).spec

    assert (found.inputs[0].name, found.outputs[0].name) == ("a", "c")
    assert verify_package(package).passed


@pytest.mark.parametrize(
    ("kind", "layers", "dynamo"),
    # A second LSTM in one process comes out of the dynamo exporter with its free sizes frozen.
    [("LSTM", 1, False), ("LSTM", 2, False), ("GRU", 2, False), ("LSTM", 1, True), ("GRU", 2, True)],
)
def test_what_pytorch_exports(tmp_path, kind, layers, dynamo):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = getattr(torch.nn, kind)(INPUTS, HIDDEN, num_layers=layers, batch_first=True)
            self.fc = torch.nn.Linear(HIDDEN, 2)

        def forward(self, x, *state):
            y, after = self.rnn(x, state if kind == "LSTM" else state[0])
            return self.fc(y), after

    module = Model().eval()
    count = 2 if kind == "LSTM" else 1
    example = (torch.zeros(3, 5, INPUTS), *(torch.zeros(layers, 3, HIDDEN) for _ in range(count)))
    file = tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            batch, steps = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("steps", min=1, max=512)
            shapes = ({0: batch, 1: steps}, tuple({1: batch} for _ in range(count)))
            program = torch.onnx.export(module, example, dynamo=True, dynamic_shapes=shapes, verbose=False)
            program.save(file, external_data=False)
        else:
            names = ["x", "h0", "c0"][: 1 + count]
            axes = {"x": {0: "batch", 1: "time"}, "h0": {1: "batch"}, "c0": {1: "batch"}}
            dynamic = {name: axes[name] for name in names}
            torch.onnx.export(module, example, file, input_names=names, dynamic_axes=dynamic, dynamo=False)
    package = import_onnx(file, tmp_path / "repository")
    x = sequence()

    y, (state,) = run_package(package, x)
    with torch.no_grad():
        zeros = [torch.zeros(layers, 4, HIDDEN)] * count
        expected, after = module(torch.from_numpy(x).transpose(0, 1), *zeros)

    np.testing.assert_allclose(y, expected.transpose(0, 1).numpy(), atol=1e-5)
    final = np.concatenate(
        [h.numpy().swapaxes(0, 1).reshape(4, -1) for h in (after if count == 2 else [after])], axis=1
    )
    np.testing.assert_allclose(state, final, atol=1e-5)
    assert verify_package(package).passed
