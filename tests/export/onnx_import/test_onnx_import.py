"""Imports foreign graphs; the oracle is the foreign file itself, run one sequence at a time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.export.foreign_graphs import (
    HIDDEN,
    INPUTS,
    ForeignGraph,
    batch_first_lstm,
    constant,
    loop,
    lstm_weights,
    make,
    one_row_with_a_rate,
    pieces,
    ring_buffer,
    run_package,
    scan,
    sequence,
    step_cell,
    tensor,
    two_kinds_of_state,
)

from statewise.export import Exactness, import_onnx, read_package, verify_package
from statewise.wire import ModelSpec


@pytest.mark.parametrize(
    "symbols",
    [("batch", "time"), (None, None), ("a", "b"), ("time", "batch")],
    ids=["named", "unnamed", "short", "misleading"],
)
@pytest.mark.parametrize("names", [("h0", "c0", "hn", "cn"), ("p", "q", "lstm_1", "lstm_2")], ids=str)
def test_a_batch_first_lstm(
    tmp_path: Path, names: tuple[str, str, str, str], symbols: tuple[str | None, str | None]
) -> None:
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
def test_state_carried_by_a_scan_or_loop(tmp_path: Path, make_graph: Callable[..., ForeignGraph]) -> None:
    foreign = make_graph()
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")
    x = sequence()

    y, (state,) = run_package(package, x)
    parts, state_of_parts = pieces(package, x)

    assert state_of_parts is not None
    expected = foreign.run({"x": x, "q": np.zeros((4, HIDDEN), np.float32)})
    np.testing.assert_array_equal(y, expected["y"])
    np.testing.assert_array_equal(state, expected["z"])
    np.testing.assert_allclose(np.concatenate(parts), y, atol=1e-6)
    np.testing.assert_allclose(state_of_parts[0], state, atol=1e-6)


def test_a_cell_of_one_step_gets_a_time_axis(tmp_path: Path) -> None:
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
def test_a_ring_buffer_is_a_state_too(tmp_path: Path, names: tuple[str, str]) -> None:
    foreign = ring_buffer(names)
    declared = {} if names[0] == "buffer" else {"p": "q"}
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository", state=declared)
    x = sequence()

    y, (state,) = run_package(package, x)

    np.testing.assert_allclose(y[5], x[2:6].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(y[0], x[0] / 4, atol=1e-6)
    np.testing.assert_array_equal(state.reshape(4, 4, INPUTS), x[2:].swapaxes(0, 1))
    assert verify_package(package).passed


def test_a_graph_of_one_row_serves_many(tmp_path: Path) -> None:
    foreign = one_row_with_a_rate()
    file = foreign.save(tmp_path / "vad.onnx")
    package = import_onnx(file, tmp_path / "repository", constants={"sr": 2})
    x = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)

    y, (state,) = run_package(package, x)

    for row in range(3):
        zeros = np.zeros((2, 1, HIDDEN), np.float32)
        alone = foreign.run({"input": x[:, row][None], "state": zeros, "sr": np.array(2)})
        np.testing.assert_allclose(y[row], alone["output"].reshape(y[row].shape), atol=1e-6)
        np.testing.assert_allclose(state[row], alone["stateN"].ravel(), atol=1e-6)
    assert verify_package(package).exactness is Exactness.EXACT


def test_two_states_of_different_kinds_with_rows_on_different_axes(tmp_path: Path) -> None:
    package = import_onnx(two_kinds_of_state().save(tmp_path / "m.onnx"), tmp_path / "repository")
    x = sequence()

    y, (total, count) = run_package(package, x)

    np.testing.assert_allclose(y, np.cumsum(x, axis=0) / np.arange(1, 7)[:, None, None], atol=1e-5)
    np.testing.assert_allclose(total, x.sum(axis=0), atol=1e-5)
    assert count.tolist() == [[6]] * 4


def test_lengths_are_found_and_kept(tmp_path: Path) -> None:
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


def test_model_toml_records_the_findings_and_their_reasons(tmp_path: Path) -> None:
    package = import_onnx(batch_first_lstm().save(tmp_path / "m.onnx"), tmp_path / "repository")
    text = (package / "model.toml").read_text()

    assert ModelSpec.from_toml(text) == read_package(package).spec
    assert "# state h0 -> hn: the initial and the final state of lstm; begins as zeros\n" in text
    assert "# input x ['batch', 'time', 3]: time is axis 1, batch is axis 0\n" in text


def test_an_older_opset_is_converted(tmp_path: Path) -> None:
    graph = batch_first_lstm(opset=13)
    package = import_onnx(graph.save(tmp_path / "m.onnx"), tmp_path / "repository")

    assert verify_package(package).passed
