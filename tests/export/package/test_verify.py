"""Verifies sound packages, and packages with one flaw each."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.export.checkpoints import make_checkpoint

from statewise.export import Check, Exactness, PackageError, VerifyReport, export_checkpoint, verify_package
from statewise.models.base import Array
from statewise.wire import METADATA_KEY, CallShape, ModelSpec, StatePair, TensorSpec

FLOAT = TensorProto.FLOAT


def check(report: VerifyReport, name: str) -> Check:
    return next(entry for entry in report.checks if entry.name == name)


def measured(report: VerifyReport, name: str) -> float:
    value = check(report, name).measured
    assert value is not None
    return value


def rewrite(package: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(package / "model.onnx")
    change(model)
    (package / "model.onnx").write_bytes(model.SerializeToString())


def replace_constant(model: onnx.ModelProto, name: str, change: Callable[[Array], Array]) -> None:
    tensor = next(entry for entry in model.graph.initializer if entry.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))


@pytest.mark.parametrize(
    "from_checkpoint", [False, True], ids=["rebuilt-from-the-graph", "from-the-checkpoint"]
)
@pytest.mark.parametrize(
    "fields",
    [
        {"cell": "lstm", "layers": 2},
        {"cell": "gru", "reset_after": True, "call_shape": "many_to_one", "head": "softmax"},
        {"cell": "gru", "bidirectional": True},
        {"cell": "lstm", "residual": True, "output_size": 2, "transform": "sqrt"},
        {"cell": "lstm", "call_shape": "one_to_one", "head": "sigmoid"},
        {"cell": "lstm", "input_size": 9, "embedding_size": 4},
        {"cell": "lstm", "layers": 2, "learn_initial_state": True},
        {"cell": "gru", "bidirectional": True, "learn_initial_state": True},
    ],
    ids=str,
)
def test_sound_packages_pass_and_are_exact(
    tmp_path: Path, fields: dict[str, Any], from_checkpoint: bool
) -> None:
    checkpoint = make_checkpoint(**fields)
    package = export_checkpoint(checkpoint, tmp_path)

    report = verify_package(package, checkpoint=checkpoint if from_checkpoint else None)

    assert report.passed, report.checks
    assert report.exactness is Exactness.EXACT
    assert measured(report, "NumPy = onnxruntime") < 1e-6
    assert measured(report, "alone = batched") == 0


def test_a_verification_repeated_measures_the_same(tmp_path: Path) -> None:
    package = export_checkpoint(make_checkpoint(), tmp_path)

    assert verify_package(package).to_dict() == verify_package(package).to_dict()


def test_a_checkpoint_of_other_weights_fails(tmp_path: Path) -> None:
    package = export_checkpoint(make_checkpoint(seed=1), tmp_path)

    report = verify_package(package, checkpoint=make_checkpoint(seed=2))

    assert not report.passed
    assert measured(report, "NumPy = onnxruntime") > 1e-2


def test_a_checkpoint_of_another_network_fails(tmp_path: Path) -> None:
    package = export_checkpoint(make_checkpoint(hidden_size=8), tmp_path)

    report = verify_package(package, checkpoint=make_checkpoint(hidden_size=9))

    assert (
        check(report, "NumPy = onnxruntime").detail == "the checkpoint is of another network than the package"
    )
    assert not report.passed


@pytest.mark.parametrize(
    "name", ["layer0.W", "layer0.R", "layer0.B", "head.V", "head.c", "input_mean", "output_scale"]
)
def test_every_constant_counts(tmp_path: Path, name: str) -> None:
    checkpoint = make_checkpoint()
    package = export_checkpoint(checkpoint, tmp_path)

    def nudge(values: Array) -> Array:
        values.flat[0] += 0.5
        return values

    rewrite(package, lambda model: replace_constant(model, name, nudge))

    assert not verify_package(package, checkpoint=checkpoint).passed


def test_a_learned_initial_state_counts(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(learn_initial_state=True)
    package = export_checkpoint(checkpoint, tmp_path)

    assert check(verify_package(package, checkpoint=checkpoint), "initial state").passed

    def begin_elsewhere(model: onnx.ModelProto) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
        spec = ModelSpec.from_json(entry.value)
        entry.value = replace(spec, state=(replace(spec.state[0], initial=0.25),)).to_json()

    rewrite(package, begin_elsewhere)
    assert not check(verify_package(package, checkpoint=checkpoint), "initial state").passed


def test_a_graph_that_forgets_its_state_is_caught_without_the_checkpoint(tmp_path: Path) -> None:
    package = export_checkpoint(make_checkpoint(), tmp_path)

    def forget(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.op_type == "LSTM")
        del node.input[5:]

    rewrite(package, forget)
    report = verify_package(package)

    assert not check(report, "NumPy = onnxruntime").passed
    assert not check(report, "step by step = whole").passed
    assert report.exactness is Exactness.UNSAFE


def test_a_plain_rnn_is_within_tolerance_or_better(tmp_path: Path) -> None:
    report = verify_package(export_checkpoint(make_checkpoint(cell="rnn", hidden_size=32), tmp_path))

    assert report.passed
    assert report.exactness in (Exactness.EXACT, Exactness.TOLERANCE)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda model: model.graph.input[0].type.tensor_type.shape.dim[2].__setattr__("dim_value", 6),
            "checker",
        ),
        (lambda model: model.graph.node[0].input.__setitem__(0, "nothing"), "checker"),
        (lambda model: model.opset_import[0].__setattr__("version", 9), "versions"),
    ],
    ids=["input-of-another-size", "dangling-input", "old-opset"],
)
def test_broken_graphs_are_reported_and_not_run(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], complaint: str
) -> None:
    package = export_checkpoint(make_checkpoint(), tmp_path)
    rewrite(package, change)

    report = verify_package(package)

    assert not report.passed
    assert report.exactness is None
    assert any(complaint in entry.name and not entry.passed for entry in report.checks)


def test_metadata_that_contradicts_the_graph_is_reported(tmp_path: Path) -> None:
    package = export_checkpoint(make_checkpoint(), tmp_path)

    def change(model: onnx.ModelProto) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
        entry.value = entry.value.replace(
            '"name": "y", "dtype": "float32", "shape": [3]', '"name": "out", "dtype": "float32", "shape": [3]'
        )

    rewrite(package, change)

    assert check(verify_package(package), "metadata").detail == (
        "output 'out' is declared, but not in the graph; output 'y' is in the graph, but not declared"
    )


def test_nothing_to_verify_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PackageError):
        verify_package(tmp_path)


@pytest.fixture
def coupled(tmp_path: Path) -> Path:
    """A graph of other making whose rows share a scale, as dynamic quantisation over a batch does."""
    spec = ModelSpec(
        inputs=(TensorSpec("x", "float32", (2,)),),
        outputs=(TensorSpec("y", "float32", (2,)),),
        state=(StatePair("s", "s_out", "float32", (2,)),),
        call_shapes=(CallShape.MANY_TO_MANY,),
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["scale"], keepdims=0),
        helper.make_node("Div", ["x", "scale"], ["y"]),
        helper.make_node("Identity", ["s"], ["s_out"]),
    ]
    sequence: list[str | int] = ["T", "B", 2]
    row = sequence[1:]
    inputs = [helper.make_tensor_value_info(*entry) for entry in (("x", FLOAT, sequence), ("s", FLOAT, row))]
    outputs = [
        helper.make_tensor_value_info(*entry) for entry in (("y", FLOAT, sequence), ("s_out", FLOAT, row))
    ]
    graph = helper.make_graph(nodes, "coupled", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    path = tmp_path / "coupled.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_rows_that_depend_on_each_other_are_found(coupled: Path) -> None:
    report = verify_package(coupled)

    assert not check(report, "alone = batched").passed
    assert report.exactness is Exactness.UNSAFE
    assert json.loads(json.dumps(report.to_dict()))["exactness"] == "unsafe"
