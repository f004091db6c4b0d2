"""Imports graphs whose batch is fixed at 1: rows run together where that changes nothing, else one by one."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from tests.export.foreign_graphs import (
    HIDDEN,
    INPUTS,
    ForeignGraph,
    constant,
    lstm_weights,
    make,
    pieces,
    run_package,
    sequence,
    tensor,
)

from statewise.export import Exactness, import_onnx, verify_package

TOGETHER = "its batch was made free"


def lstm(*, mixes_rows: bool = False, initial_cell: bool = False) -> ForeignGraph:
    """x [1, T, 3], h [1, 1, 8]; shapes in constants hold the batch of 1, as PyTorch's exporters write them.

    With `mixes_rows` the graph divides by a mean over all that it is given, which is no part of one row alone
    once rows stand together. With `initial_cell` the cell state is a constant, and no input.
    """
    cell = "c_start" if initial_cell else "c0"
    nodes = [
        helper.make_node("Transpose", ["x"], ["x_t"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM", ["x_t", "W", "R", "b", "", "h0", cell], ["Y", "hn", "cn"], hidden_size=HIDDEN
        ),
        helper.make_node("Squeeze", ["Y", "one"], ["y_t"]),
        helper.make_node("Transpose", ["y_t"], ["y_b"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["y_b", "halves"], ["y_h"]),
        helper.make_node(
            "ReduceMean", ["y_h"], ["mean"], keepdims=1, axes=[0, 1, 2, 3] if mixes_rows else [3]
        ),
        helper.make_node("Add", ["y_h", "mean"], ["y_m"]),
        helper.make_node("Reshape", ["y_m", "joined"], ["y"]),
    ]
    constants = [
        *lstm_weights(),
        constant("one", values=np.array([1])),
        constant("halves", values=np.array([1, -1, 2, HIDDEN // 2])),
        constant("joined", values=np.array([1, -1, HIDDEN])),
        constant("c_start", 1, 1, HIDDEN),
    ]
    state = [1, 1, HIDDEN]
    inputs = [tensor("x", [1, "T", INPUTS]), tensor("h0", state)]
    outputs = [tensor("y", [1, "T", HIDDEN]), tensor("hn", state)]
    if not initial_cell:
        inputs.append(tensor("c0", state))
        outputs.append(tensor("cn", state))
    return make(nodes, inputs, outputs, constants)


def alone(foreign: ForeignGraph, x: np.ndarray) -> np.ndarray:
    """y [T, B, 8] of the file, row by row."""
    zeros = np.zeros((1, 1, HIDDEN), np.float32)
    states = {entry.name: zeros for entry in foreign.model.graph.input if entry.name != "x"}
    rows = [foreign.run({"x": x[None, :, row], **states})["y"][0] for row in range(x.shape[1])]
    return np.stack(rows, axis=1)


def test_rows_of_a_graph_of_one_row_run_together(tmp_path: Path) -> None:
    foreign = lstm()
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")
    assert TOGETHER in (package / "model.toml").read_text()
    x = sequence()
    y, _ = run_package(package, x)
    np.testing.assert_allclose(y, alone(foreign, x), atol=1e-6)
    np.testing.assert_array_equal(np.concatenate(pieces(package, x)[0]), y)
    report = verify_package(package)
    assert report.passed, report.checks
    assert report.exactness is Exactness.EXACT


def test_a_constant_state_of_one_row_is_that_of_every_row(tmp_path: Path) -> None:
    foreign = lstm(initial_cell=True)
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository", stateless=True)
    x = sequence()
    np.testing.assert_allclose(run_package(package, x)[0], alone(foreign, x), atol=1e-6)
    assert TOGETHER in (package / "model.toml").read_text()


def test_a_graph_that_mixes_rows_runs_them_one_by_one(tmp_path: Path) -> None:
    foreign = lstm(mixes_rows=True)
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository", stateless=True)
    toml = (package / "model.toml").read_text()
    assert TOGETHER not in toml
    assert "rows of a batch run one after another" in toml
    x = sequence()
    np.testing.assert_allclose(run_package(package, x)[0], alone(foreign, x), atol=1e-6)


@pytest.mark.parametrize("time", [1, "T"])
def test_the_batch_is_found_where_other_axes_have_size_1(tmp_path: Path, time: int | str) -> None:
    """A running sum of x [1, time, 3] in h [1, 1, 3]."""
    nodes = [
        helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=1),
        helper.make_node("Add", ["sum", "h_in"], ["h_out"]),
        helper.make_node("Reshape", ["h_out", "flat"], ["y"]),
    ]
    foreign = make(
        nodes,
        [tensor("x", [1, time, INPUTS]), tensor("h_in", [1, 1, INPUTS])],
        [tensor("y", [1, INPUTS]), tensor("h_out", [1, 1, INPUTS])],
        [constant("axis", values=np.array([1])), constant("flat", values=np.array([1, INPUTS]))],
    )
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")
    assert TOGETHER in (package / "model.toml").read_text()
    assert verify_package(package).passed
