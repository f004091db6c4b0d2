"""Imports graphs that give NaN for some inputs: NaN agrees with NaN, and numbers are needed to compare."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from tests.export.foreign_graphs import ForeignGraph, make, run_package, tensor

from statewise.export import SourceError, import_onnx, verify_package


def logarithms() -> ForeignGraph:
    """h' = log x + h, NaN from the first x below 0 on."""
    nodes = [
        helper.make_node("Log", ["x"], ["log"]),
        helper.make_node("Add", ["log", "h_in"], ["h_out"]),
        helper.make_node("Identity", ["h_out"], ["y"]),
    ]
    row = ["N", 2]
    return make(nodes, [tensor("x", row), tensor("h_in", row)], [tensor("y", row), tensor("h_out", row)])


def ratios() -> ForeignGraph:
    """h' = h x / h, NaN for ever where h begins as 0."""
    nodes = [
        helper.make_node("Mul", ["x", "h_in"], ["product"]),
        helper.make_node("Div", ["product", "h_in"], ["h_out"]),
        helper.make_node("Identity", ["h_out"], ["y"]),
    ]
    row = ["N", 2]
    return make(nodes, [tensor("x", row), tensor("h_in", row)], [tensor("y", row), tensor("h_out", row)])


def test_a_graph_with_nan_below_0_is_compared_on_positive_inputs(tmp_path: Path) -> None:
    foreign = logarithms()
    package = import_onnx(foreign.save(tmp_path / "log.onnx"), tmp_path / "repository")
    assert "NaN for some of the inputs" in (package / "model.toml").read_text()
    x = np.array([[[1, 2], [0.5, -1]], [[3, 4], [2, 2]]], np.float32)  # [T, B, 2]
    y, _ = run_package(package, x)
    h = np.zeros((2, 2), np.float32)
    for step in range(2):
        h = foreign.run({"x": x[step], "h_in": h})["h_out"]
        np.testing.assert_allclose(y[step], h, rtol=1e-6)
    assert np.isnan(h).sum() == 1
    assert verify_package(package).passed


def test_a_graph_that_gives_nan_alone_is_refused_with_what_helps(tmp_path: Path) -> None:
    file = ratios().save(tmp_path / "ratios.onnx")
    with pytest.raises(SourceError, match=r"output 'y', state .*: NaN for all inputs .*--initial STATE="):
        import_onnx(file, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()
    package = import_onnx(file, tmp_path / "repository", initial={"h_in": 1})
    assert verify_package(package).passed
