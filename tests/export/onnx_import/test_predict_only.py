"""Imports graphs that cannot have sessions, or shall have none; the oracle is the foreign file."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from tests.export.foreign_graphs import (
    HIDDEN,
    INPUTS,
    batch_first_lstm,
    constant,
    hidden_lstm,
    lstm_weights,
    lstm_with_state,
    make,
    run_package,
    sequence,
    tensor,
)

from statewise.export import SourceError, import_onnx, read_package, verify_package


@pytest.mark.parametrize(
    ("direction", "flipped"), [("bidirectional", False), ("reverse", False), ("forward", True)]
)
def test_a_graph_that_reads_backwards_has_no_sessions(tmp_path: Path, direction: str, flipped: bool) -> None:
    foreign = lstm_with_state(direction, flipped=flipped)
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")
    x = sequence()

    y, _ = run_package(package, x)

    zeros = np.zeros((2 if direction == "bidirectional" else 1, 4, HIDDEN), np.float32)
    np.testing.assert_allclose(y, foreign.run({"x": x, "h0": zeros, "c0": zeros})["y"], atol=1e-6)
    assert not read_package(package).spec.streamable
    assert "the model is Predict-only, without sessions" in (package / "model.toml").read_text()
    assert verify_package(package).passed


def test_a_graph_that_hides_its_state_can_be_imported_for_predict(tmp_path: Path) -> None:
    foreign = hidden_lstm(zeros=False, direction="reverse")
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository", stateless=True)
    x = sequence()

    y, _ = run_package(package, x)

    np.testing.assert_allclose(y, foreign.run({"x": x})["y"], atol=1e-6)
    assert not read_package(package).spec.streamable
    assert verify_package(package).passed


def test_the_states_of_a_stateless_import_begin_as_given(tmp_path: Path) -> None:
    foreign = batch_first_lstm()
    file = foreign.save(tmp_path / "m.onnx")
    package = import_onnx(file, tmp_path / "repository", stateless=True, initial={"h0": 0.5})
    x = sequence()

    y, _ = run_package(package, x)

    start = {
        "h0": np.full((1, 4, HIDDEN), 0.5, np.float32),
        "c0": np.zeros((1, 4, HIDDEN), np.float32),
    }
    expected = foreign.run({"x": x.swapaxes(0, 1), **start})["y"]
    np.testing.assert_allclose(y, expected.swapaxes(0, 1), atol=1e-6)
    assert [entry.name for entry in read_package(package).spec.inputs] == ["x"]


def test_a_graph_with_a_convolution_names_its_least_number_of_steps(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["xc"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["xc", "K"], ["conv"], kernel_shape=[5]),
        helper.make_node("Transpose", ["conv"], ["steps"], perm=[2, 0, 1]),
        helper.make_node("LSTM", ["steps", "W", "R", "b"], ["", "h"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["h", "zero"], ["y"]),
    ]
    foreign = make(
        nodes,
        [tensor("x", ["batch", "time", 2])],
        [tensor("y", ["batch", HIDDEN])],
        [constant("K", INPUTS, 2, 5), *lstm_weights(), constant("zero", values=np.array([0]))],
    )
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository", stateless=True)

    assert read_package(package).spec.least_steps == 5
    assert verify_package(package).passed


@pytest.mark.parametrize("direction", ["bidirectional", "reverse"])
def test_exposing_is_not_suggested_where_it_would_be_refused(tmp_path: Path, direction: str) -> None:
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "b"], ["Y"], hidden_size=HIDDEN, direction=direction),
        helper.make_node("ReduceMean", ["Y"], ["y"], axes=[1], keepdims=0),
    ]
    directions = 2 if direction == "bidirectional" else 1
    foreign = make(
        nodes,
        [tensor("x", ["T", "B", INPUTS])],
        [tensor("y", ["T", "B", HIDDEN])],
        [
            constant("W", directions, 4 * HIDDEN, INPUTS),
            constant("R", directions, 4 * HIDDEN, HIDDEN),
            constant("b", directions, 8 * HIDDEN),
        ],
    )
    file = foreign.save(tmp_path / "m.onnx")

    with pytest.raises(SourceError, match=r"no state found: .*--stateless") as refusal:
        import_onnx(file, tmp_path / "repository")
    assert "--expose-state" not in str(refusal.value)
    with pytest.raises(SourceError, match=r"reads forwards; .*--stateless"):
        import_onnx(file, tmp_path / "repository", expose_state=True)
