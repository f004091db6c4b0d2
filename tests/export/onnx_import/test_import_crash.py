"""Imports and verifies a graph that crashes onnxruntime at its highest level of optimisation."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.export.foreign_graphs import ForeignGraph, constant, make, tensor

from statewise.export import PackageError, import_onnx, verify_package
from statewise.export._isolating import with_some_optimisation
from statewise.export.onnx_import import ImportOptions, read_onnx
from statewise.wire import METADATA_KEY, CallShape, ModelSpec, TensorSpec

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


def test_a_graph_that_crashes_onnxruntime_is_imported_at_a_lower_level(tmp_path: Path) -> None:
    file = half_projection().save(tmp_path / "m.onnx")
    package = import_onnx(file, tmp_path / "repository", stateless=True)

    assert "this import ran it at 'extended'" in (package / "model.toml").read_text()
    assert verify_package(package).passed


def test_a_package_that_crashes_onnxruntime_is_verified_at_a_lower_level(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Tanh", ["b"], ["c"]),
        helper.make_node("Transpose", ["c"], ["y"], perm=[1, 0, 2]),
    ]
    foreign = make(
        nodes,
        [tensor("x", ["T", "B", 5], HALF)],
        [tensor("y", ["T", "B", 3], HALF)],
        [constant("w", values=np.full((5, 3), 0.5, np.float16))],
    )
    spec = ModelSpec(
        (TensorSpec("x", "float16", (5,)),),
        (TensorSpec("y", "float16", (3,)),),
        (),
        (CallShape.MANY_TO_MANY,),
    )
    helper.set_model_props(foreign.model, {METADATA_KEY: spec.to_json()})
    report = verify_package(foreign.save(tmp_path / "m.onnx"))

    assert report.passed, report.checks
    assert report.checks[0].name == "optimisation"
    assert "it runs at 'extended'" in report.checks[0].detail


def test_a_crash_at_every_level_is_an_error(tmp_path: Path) -> None:
    file = half_projection().save(tmp_path / "m.onnx")

    with pytest.raises(PackageError, match=r"expected a graph that onnxruntime runs; .*crashed \(SIG"):
        with_some_optimisation(read_onnx, file, ImportOptions(stateless=True), levels=["all"])
