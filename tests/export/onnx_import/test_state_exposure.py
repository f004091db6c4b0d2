"""Exposes the state of recurrent operators that have no state inputs and outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.export.foreign_graphs import (
    HIDDEN,
    INPUTS,
    INT64,
    ForeignGraph,
    constant,
    hidden_lstm,
    lstm_weights,
    make,
    pieces,
    run_package,
    sequence,
    tensor,
)

from statewise.export import Exactness, SourceError, import_onnx, read_package, verify_package


def test_hidden_state_can_be_exposed(tmp_path: Path) -> None:
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
def test_operators_that_cannot_be_exposed_are_an_error(
    tmp_path: Path, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(SourceError, match=complaint):
        import_onnx(hidden_lstm(**options).save(tmp_path / "m.onnx"), tmp_path / "r", expose_state=True)


def hidden_loop(kind: str) -> ForeignGraph:
    """A carried tanh in a Loop or Scan that starts from zeros made in the graph, as Keras's layers export."""
    step = [
        helper.make_node("MatMul", ["step", "W"], ["a"]),
        helper.make_node("MatMul", ["carried", "R"], ["r"]),
        helper.make_node("Add", ["a", "r"], ["next_"]),
        helper.make_node("Tanh", ["next_"], ["kept"]),
        helper.make_node("Identity", ["kept"], ["said"]),
    ]
    row: list[Any] = ["B", HIDDEN]
    nodes = [
        helper.make_node("Shape", ["x"], ["rows"], start=1, end=2),
        helper.make_node("Concat", ["rows", "size"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
    ]
    if kind == "Scan":
        body = helper.make_graph(
            step,
            "body",
            [tensor("carried", row), tensor("step", ["B", INPUTS])],
            [tensor("kept", row), tensor("said", row)],
        )
        nodes.append(helper.make_node("Scan", ["zeros", "x"], ["last", "y"], body=body, num_scan_inputs=1))
    else:
        body = helper.make_graph(
            [
                helper.make_node("Gather", ["x", "time"], ["step"], axis=0),
                *step,
                helper.make_node("Add", ["time", "one"], ["later"]),
                helper.make_node("Identity", ["go"], ["go_on"]),
            ],
            "body",
            [
                tensor("i", [], INT64),
                tensor("go", [], TensorProto.BOOL),
                tensor("time", [], INT64),
                tensor("carried", row),
            ],
            [
                tensor("go_on", [], TensorProto.BOOL),
                tensor("later", [], INT64),
                tensor("kept", row),
                tensor("said", row),
            ],
        )
        nodes += [
            helper.make_node("Shape", ["x"], ["T_row"], start=0, end=1),
            helper.make_node("Squeeze", ["T_row"], ["T"]),
            helper.make_node("Loop", ["T", "", "start", "zeros"], ["end", "last", "y"], body=body),
        ]
    constants = [constant("W", INPUTS, HIDDEN), constant("R", HIDDEN, HIDDEN)]
    numbers = {"size": np.array([HIDDEN]), "one": np.array(1), "start": np.array(0)}
    return make(
        nodes,
        [tensor("x", ["T", "B", INPUTS])],
        [tensor("y", ["T", "B", HIDDEN])],
        constants + [constant(name, values=values) for name, values in numbers.items()],
    )


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_the_state_inside_a_loop_can_be_exposed(tmp_path: Path, kind: str) -> None:
    """The Loop also carries a counter, which begins anew in every run and is no state."""
    foreign = hidden_loop(kind)
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository", expose_state=True)
    x = sequence()

    y, _ = run_package(package, x)
    parts, _ = pieces(package, x)

    np.testing.assert_allclose(y, foreign.run({"x": x})["y"], atol=1e-6)
    np.testing.assert_allclose(np.concatenate(parts), y, atol=1e-6)
    (pair,) = read_package(package).spec.state
    assert (pair.dtype, pair.shape) == ("float32", (HIDDEN,))


def test_float16_state_can_be_exposed(tmp_path: Path) -> None:
    half = TensorProto.FLOAT16
    weights = [numpy_helper.to_array(entry).astype(np.float16) for entry in lstm_weights()]
    foreign = make(
        [
            helper.make_node("LSTM", ["x", "W", "R", "b"], ["Y"], hidden_size=HIDDEN, name="lstm"),
            helper.make_node("Squeeze", ["Y", "one"], ["y"]),
        ],
        [tensor("x", ["T", "B", INPUTS], half)],
        [tensor("y", ["T", "B", HIDDEN], half)],
        [
            *(constant(name, values=array) for name, array in zip("WRb", weights, strict=True)),
            constant("one", values=np.array([1])),
        ],
    )
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository", expose_state=True)
    x = sequence().astype(np.float16)

    y, _ = run_package(package, x)
    parts, _ = pieces(package, x)

    expected = foreign.run({"x": x})["y"]
    np.testing.assert_allclose(y, expected, atol=2e-3)
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=2e-3)
    assert read_package(package).spec.state[0].dtype == "float16"
    assert verify_package(package).passed


def two_ways() -> ForeignGraph:
    """x [T, B, 4, 3]: a bidirectional LSTM over the four bands of every frame, then an LSTM over time."""
    nodes = [
        helper.make_node("Reshape", ["x", "frames"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["bands"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM",
            ["bands", "W2", "R2", "b2"],
            ["", "last"],
            hidden_size=HIDDEN,
            direction="bidirectional",
            name="bands",
        ),
        helper.make_node("Shape", ["x"], ["steps_and_rows"], start=0, end=2),
        helper.make_node("Concat", ["steps_and_rows", "rest"], ["shape"], axis=0),
        helper.make_node("Transpose", ["last"], ["both"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["both", "shape"], ["frame"]),
        helper.make_node("LSTM", ["frame", "W", "R", "b"], ["Y"], hidden_size=HIDDEN, name="time"),
        helper.make_node("Squeeze", ["Y", "one"], ["y"]),
    ]
    return make(
        nodes,
        [tensor("x", ["T", "B", 4, INPUTS])],
        [tensor("y", ["T", "B", HIDDEN])],
        [
            constant("W2", 2, 4 * HIDDEN, INPUTS),
            constant("R2", 2, 4 * HIDDEN, HIDDEN),
            constant("b2", 2, 8 * HIDDEN),
            constant("W", 1, 4 * HIDDEN, 2 * HIDDEN),
            constant("R", 1, 4 * HIDDEN, HIDDEN),
            constant("b", 1, 8 * HIDDEN),
            constant("frames", values=np.array([-1, 4, INPUTS])),
            constant("rest", values=np.array([2 * HIDDEN])),
            constant("one", values=np.array([1])),
        ],
    )


def test_an_operator_over_another_axis_than_time_keeps_its_state_to_itself(tmp_path: Path) -> None:
    foreign = two_ways()
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository", expose_state=True)
    x = np.random.default_rng(0).standard_normal((6, 2, 4, INPUTS)).astype(np.float32)

    y, _ = run_package(package, x)
    parts, _ = pieces(package, x)

    np.testing.assert_allclose(y, foreign.run({"x": x})["y"], atol=1e-6)
    np.testing.assert_allclose(np.concatenate(parts), y, atol=1e-6)
    assert [part.name for part in read_package(package).spec.state[0].parts] == ["time.h", "time.c"]
    assert (
        "# bands: expected an operator that reads forwards; it is left"
        in (package / "model.toml").read_text()
    )
