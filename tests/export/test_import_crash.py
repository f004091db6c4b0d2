"""Imports and verifies a graph that crashes onnxruntime at its highest level of optimisation."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.export.foreign_graphs import ForeignGraph, constant, make, tensor

from statewise.export import PackageError, import_onnx, read_package, verify_package
from statewise.export.base import OPTIMISATION_LEVELS

HALF = TensorProto.FLOAT16


def half_projection() -> ForeignGraph:
    """x [B, T, 5] -> y [T, B, 3] in float16: the fusion of Transpose and MatMul reads outside its weights."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["a", "w"], ["y"]),
    ]
    return make(
        nodes,
        [tensor("x", ["b", "t", 5], HALF)],
        [tensor("y", ["t", "b", 3], HALF)],
        [constant("w", values=np.full((5, 3), 0.5, np.float16))],
    )


def test_a_graph_that_crashes_onnxruntime_is_run_at_a_lower_level(tmp_path):
    file = half_projection().save(tmp_path / "m.onnx")
    package = import_onnx(file, tmp_path / "repository", stateless=True)
    report = verify_package(package)

    assert read_package(package).spec.notes["optimisation"] == "extended"
    assert "crashes at its highest level of optimisation" in (package / "model.toml").read_text()
    assert report.passed, report.checks
    assert report.checks[0].name == "optimisation"


def test_a_crash_at_every_level_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "statewise.export._isolating.OPTIMISATION_LEVELS", {"all": OPTIMISATION_LEVELS["all"]}
    )
    file = half_projection().save(tmp_path / "m.onnx")

    with pytest.raises(PackageError, match=r"expected a graph that onnxruntime runs; .*crashed \(SIG"):
        import_onnx(file, tmp_path / "repository", stateless=True)
    assert not (tmp_path / "repository").exists()
