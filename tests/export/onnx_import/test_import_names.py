"""Imports graphs whose names are those of packages; the oracle is the foreign file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.export.foreign_graphs import (
    HIDDEN,
    INPUTS,
    constant,
    lstm_weights,
    make,
    run_package,
    sequence,
    step_cell,
    tensor,
)

from statewise.export import import_onnx, read_package, verify_package


@pytest.mark.parametrize(
    ("x", "h", "y", "h2"),
    [
        ("state", "h_in", "y", "h_out"),
        ("x", "h_in", "state_out", "h_out"),
        ("state", "h_in", "state_out", "h_out"),
        ("lengths", "h_in", "y", "h_out"),
        ("x", "state", "y", "state_out"),
        ("x", "h_in", "h_in.part", "h_out"),
        ("h_in.shape", "h_in", "y", "h_out"),
        ("x", "h_in", "h_in.after", "h_out"),
        ("foreign/x", "foreign/h", "foreign/y", "foreign/h_out"),
        ("layers/x", "layers/h", "layers/y", "layers/h_out"),
    ],
)
def test_names_of_packages_in_a_foreign_graph(tmp_path: Path, x: str, h: str, y: str, h2: str) -> None:
    foreign = step_cell(x, h, y, h2)
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository", state={h: h2})
    data = sequence(rows=2)

    found, (state,) = run_package(package, data)

    hidden = np.zeros((2, HIDDEN), np.float32)
    for step in range(len(data)):
        result = foreign.run({x: data[step], h: hidden})
        hidden = result[h2]
        np.testing.assert_allclose(found[step], result[y], atol=1e-6)
    np.testing.assert_allclose(state, hidden, atol=1e-6)
    assert [entry.name for entry in read_package(package).spec.inputs] == [x]
    assert verify_package(package).passed


def test_data_called_lengths_beside_lengths_of_another_name(tmp_path: Path) -> None:
    state: list[Any] = [1, "B", HIDDEN]
    nodes = [
        helper.make_node(
            "LSTM", ["lengths", "W", "R", "b", "n", "h", "c"], ["Y", "h2", "c2"], hidden_size=HIDDEN
        ),
        helper.make_node("Squeeze", ["Y", "one"], ["y"]),
    ]
    foreign = make(
        nodes,
        [
            tensor("lengths", ["T", "B", INPUTS]),
            tensor("n", ["B"], TensorProto.INT32),
            tensor("h", state),
            tensor("c", state),
        ],
        [tensor("y", ["T", "B", HIDDEN]), tensor("h2", state), tensor("c2", state)],
        [*lstm_weights(), constant("one", values=np.array([1]))],
    )
    spec = read_package(import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")).spec

    assert (spec.inputs[0].name, spec.lengths) == ("lengths", "lengths_")


def test_states_of_two_types_in_turn_keep_their_numbers(tmp_path: Path) -> None:
    """Floats a and b with a counter n between them: y = a + 2 b + 4 n."""
    nodes = [
        helper.make_node("Add", ["x", "a"], ["a_out"]),
        helper.make_node("Add", ["n", "one"], ["n_out"]),
        helper.make_node("Sub", ["b", "x"], ["b_out"]),
        helper.make_node("Cast", ["n_out"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["b_out", "two"], ["b2"]),
        helper.make_node("Mul", ["count", "four"], ["n4"]),
        helper.make_node("Add", ["a_out", "b2"], ["ab"]),
        helper.make_node("Add", ["ab", "n4"], ["y"]),
    ]
    row: list[Any] = ["N", 1]
    names, kinds = ("a", "n", "b"), (TensorProto.FLOAT, TensorProto.INT64, TensorProto.FLOAT)
    foreign = make(
        nodes,
        [tensor("x", row), *(tensor(name, row, kind) for name, kind in zip(names, kinds, strict=True))],
        [
            tensor("y", row),
            *(tensor(f"{name}_out", row, kind) for name, kind in zip(names, kinds, strict=True)),
        ],
        [
            constant("one", values=np.array([1])),
            constant("two", values=np.array([2], np.float32)),
            constant("four", values=np.array([4], np.float32)),
        ],
    )
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")
    x = sequence(rows=2, features=1)

    y, (floats, counter) = run_package(package, x)

    total = np.cumsum(x, axis=0)
    steps = np.arange(1, len(x) + 1, dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(y, total - 2 * total + 4 * steps, atol=1e-5)
    np.testing.assert_allclose(floats, np.concatenate([total[-1], -total[-1]], axis=1), atol=1e-5)
    assert counter.tolist() == [[len(x)]] * 2
    assert verify_package(package).passed
