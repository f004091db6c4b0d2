"""Reads packages: their metadata, and the errors of packages that cannot be read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from tests.export.checkpoints import make_checkpoint

from statewise.export import PackageError, export_checkpoint, read_package
from statewise.wire import METADATA_KEY, CallShape, ModelSpec, StatePair, StatePart, TensorSpec


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return export_checkpoint(make_checkpoint(), tmp_path)


def rewrite(package: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(package / "model.onnx")
    change(model)
    (package / "model.onnx").write_bytes(model.SerializeToString())


def test_the_spec_of_a_streamable_network(tmp_path: Path) -> None:
    path = export_checkpoint(make_checkpoint(layers=2), tmp_path)

    parts = ("layer0.h", "layer0.c", "layer1.h", "layer1.c")
    assert read_package(path).spec == ModelSpec(
        inputs=(TensorSpec("x", "float32", (5,), per_step=True),),
        outputs=(TensorSpec("y", "float32", (3,), per_step=True),),
        state=(
            StatePair(
                "state",
                "state_out",
                "float32",
                (44,),
                parts=tuple(StatePart(name, 11 * index, 11) for index, name in enumerate(parts)),
            ),
        ),
        call_shapes=(CallShape.MANY_TO_MANY,),
        lengths="lengths",
        notes={"recipe": "tiny", "seed": "0", "accuracy": "0.975"},
    )


def test_a_classifier_gives_one_output_a_sequence_and_names_its_classes(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(call_shape="many_to_one", head="softmax", labels=("a", "b", "c"))
    spec = read_package(export_checkpoint(checkpoint, tmp_path)).spec

    assert spec.outputs == (TensorSpec("y", "float32", (3,), per_step=False),)
    assert spec.labels == ("a", "b", "c")
    assert spec.streamable


@pytest.mark.parametrize("fields", [{"bidirectional": True}, {"call_shape": "one_to_one"}], ids=str)
def test_networks_without_sessions_declare_no_state(tmp_path: Path, fields: dict[str, Any]) -> None:
    package = read_package(export_checkpoint(make_checkpoint(**fields), tmp_path))

    assert package.spec.state == ()
    assert "state" not in {entry.name for entry in package.files["model.onnx"].model.graph.input}


def test_tokens_are_declared_with_their_number(tmp_path: Path) -> None:
    spec = read_package(export_checkpoint(make_checkpoint(input_size=9, embedding_size=4), tmp_path)).spec

    assert spec.inputs == (TensorSpec("x", "int32", (), per_step=True, vocabulary_size=9),)


def test_a_file_alone_reads_like_its_folder(package: Path) -> None:
    assert read_package(package / "model.onnx").spec == read_package(package).spec


def test_the_file_has_the_promised_versions_and_its_weights_inside(package: Path) -> None:
    model = read_package(package).files["model.onnx"].model

    assert model.ir_version == 8
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.producer_name == "statewise"
    assert {entry.name for entry in model.graph.input} == {"x", "lengths", "state"}


@pytest.mark.parametrize("length", [0, 1, 100, 1000])
def test_a_truncated_file_is_an_error(package: Path, length: int) -> None:
    file = package / "model.onnx"
    file.write_bytes(file.read_bytes()[:length])

    with pytest.raises(PackageError, match="expected an ONNX file"):
        read_package(package)


def test_noise_is_an_error(package: Path) -> None:
    (package / "model.onnx").write_bytes(bytes(range(256)) * 16)

    with pytest.raises(PackageError, match="expected an ONNX file"):
        read_package(package)


def test_an_absent_package_is_an_error_naming_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"nowhere: expected a version folder with model\.onnx"):
        read_package(tmp_path / "nowhere")


def test_a_file_without_metadata_is_an_error(package: Path) -> None:
    rewrite(package, lambda model: model.ClearField("metadata_props"))

    with pytest.raises(PackageError, match="expected metadata under 'statewise'"):
        read_package(package)


def test_a_package_with_model_toml_and_no_metadata_is_left_to_the_server(package: Path) -> None:
    rewrite(package, lambda model: model.ClearField("metadata_props"))
    (package / "model.toml").write_text('batch = "exact"\n')
    with pytest.raises(
        PackageError, match=r"what model\.toml declares is tested by `statewise verify` and the server"
    ):
        read_package(package)


def test_metadata_of_another_form_is_an_error(package: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
        entry.value = entry.value.replace('"format": 1', '"format": 2')

    rewrite(package, change)

    with pytest.raises(PackageError, match="expected metadata of format 1"):
        read_package(package)


def test_weights_outside_the_file_are_refused_wherever_they_are_named(package: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        branch = onnx.helper.make_graph([], "branch", [], [])
        outside = branch.initializer.add(name="outside", data_type=onnx.TensorProto.FLOAT, dims=[1])
        outside.data_location = onnx.TensorProto.EXTERNAL
        outside.external_data.add(key="location", value="../../secret")
        model.graph.node.add(op_type="If", input=["x"], output=["z"]).attribute.append(
            onnx.helper.make_attribute("then_branch", branch)
        )

    rewrite(package, change)

    with pytest.raises(
        PackageError, match="expected weights inside the file; those of 'outside' are elsewhere"
    ):
        read_package(package)
