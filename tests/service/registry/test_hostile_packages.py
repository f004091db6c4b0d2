"""Serves repositories with hostile packages: these are reported and not served, and the others serve."""

import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.helpers.caller import connect

from statewise.service import ServiceError
from statewise.service.packages import read_package
from statewise.service.registry import scan_repository
from statewise.service.testing import running_server
from statewise.v1 import model_pb2
from statewise.wire import METADATA_KEY, CallShape, ModelSpec, StatePair, TensorSpec

Change = Callable[[Path, onnx.ModelProto], None]


def _save(folder: Path, model: onnx.ModelProto) -> None:
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def _weight(model: onnx.ModelProto, name: str = "V") -> onnx.TensorProto:
    (found,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    return found


def _outside(location: str) -> Change:
    """Moves a weight's numbers to a file outside the package."""

    def change(folder: Path, model: onnx.ModelProto) -> None:
        tensor = _weight(model)
        values = numpy_helper.to_array(tensor).tobytes()
        (folder.parent.parent / "secret.bin").write_bytes(values)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        target = location.format(root=folder.parent.parent)
        for key, value in (("location", target), ("offset", "0"), ("length", str(len(values)))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        _save(folder, model)

    return change


def _linked(folder: Path, model: onnx.ModelProto) -> None:
    """Does the same through a link inside the package."""
    _outside("weights.bin")(folder, model)
    (folder / "weights.bin").symlink_to(folder.parent.parent / "secret.bin")


def _huge(folder: Path, model: onnx.ModelProto) -> None:
    """Declares a weight of 4 TiB."""
    tensor = _weight(model)
    tensor.dims[:] = [2**20, 2**20]
    _save(folder, model)


def _huge_without_data(folder: Path, model: onnx.ModelProto) -> None:
    tensor = _weight(model)
    tensor.ClearField("raw_data")
    tensor.dims[:] = [2**31, 2**31]
    _save(folder, model)


def _huge_constant(folder: Path, model: onnx.ModelProto) -> None:
    """Makes the graph compute 4 TiB of zeros when it is loaded."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**40], np.int64), "size"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["size"], ["zeros"]))
    model.graph.node.append(helper.make_node("ReduceMax", ["zeros"], ["none"], keepdims=0))
    model.graph.node.append(helper.make_node("Add", ["y", "none"], ["sum"]))
    model.graph.output[0].name = "sum"
    _claim(model, lambda text: text.replace('"y"', '"sum"'))
    _save(folder, model)


def _huge_state(folder: Path, model: onnx.ModelProto) -> None:
    """Declares a state of 4 TiB a session."""
    _claim(model, lambda text: text.replace("[16]", f"[{2**40}]"))
    _save(folder, model)


def _nested(folder: Path, model: onnx.ModelProto) -> None:
    _claim(model, lambda _: "[" * 100_000)
    _save(folder, model)


def _no_object(folder: Path, model: onnx.ModelProto) -> None:
    _claim(model, lambda _: '{"inputs": [[[]]], "state": 7, "outputs": null}')
    _save(folder, model)


def _claim(model: onnx.ModelProto, change: Callable[[str], str]) -> None:
    (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    entry.value = change(entry.value)


def _truncated(folder: Path, model: onnx.ModelProto) -> None:
    content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content[: len(content) // 2])


def _empty(folder: Path, _: onnx.ModelProto) -> None:
    (folder / "model.onnx").write_bytes(b"")


def _noise(folder: Path, _: onnx.ModelProto) -> None:
    (folder / "model.onnx").write_bytes(np.random.default_rng(5).bytes(100_000))


def _folder(folder: Path, _: onnx.ModelProto) -> None:
    (folder / "model.onnx").mkdir()


def _unknown_operator(folder: Path, model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Exfiltrate", ["y"], ["z"], domain="com.example"))
    _save(folder, model)


def _endless_name(folder: Path, model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "x" * 1_000_000
    _save(folder, model)


HOSTILE = {
    "absolute": _outside("{root}/secret.bin"),
    "relative": _outside("../../secret.bin"),
    "linked": _linked,
    "huge": _huge,
    "huge-without-data": _huge_without_data,
    "huge-constant": _huge_constant,
    "huge-state": _huge_state,
    "nested": _nested,
    "no-object": _no_object,
    "truncated": _truncated,
    "empty": _empty,
    "noise": _noise,
    "folder": _folder,
    "unknown-operator": _unknown_operator,
    "endless-name": _endless_name,
}


async def test_a_state_that_no_arena_can_hold_is_reported(tmp_path: Path) -> None:
    """4 MiB a session, two copies, 2^24 sessions: more than the address space."""
    inputs: list[str | int] = ["T", "B", 3]
    states: list[str | int] = ["B", 2**20]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["s"], ["s_out"])],
        "large",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", inputs), ("s", states))],
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
            for n, s in (("y", inputs), ("s_out", states))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    entry = model.metadata_props.add()
    entry.key = METADATA_KEY
    entry.value = ModelSpec(
        inputs=(TensorSpec("x", "float32", (3,)),),
        outputs=(TensorSpec("y", "float32", (3,)),),
        state=(StatePair("s", "s_out", "float32", (2**20,)),),
        call_shapes=(CallShape.MANY_TO_MANY,),
    ).to_json()
    (tmp_path / "large" / "1").mkdir(parents=True)
    _save(tmp_path / "large" / "1", model)
    async with (
        running_server(tmp_path, sessions=2**24, load_test_s=0) as address,
        connect(address) as caller,
    ):
        (listed,) = (await caller.models.ListModels(model_pb2.ListModelsRequest())).models
        assert listed.status == model_pb2.MODEL_STATUS_FAILED
        assert "cannot be reserved" in listed.failure


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_package_is_reported_and_the_others_serve(
    kind: str, repository: Path, tmp_path: Path, random: np.random.Generator
) -> None:
    shutil.copytree(repository / "steps" / "1", tmp_path / "good" / "1")
    model = onnx.load(tmp_path / "good" / "1" / "model.onnx")
    folder = tmp_path / "bad" / "1"
    folder.mkdir(parents=True)
    HOSTILE[kind](folder, model)
    async with running_server(tmp_path, repository_poll_s=0) as address, connect(address) as caller:
        listed = (await caller.models.ListModels(model_pb2.ListModelsRequest())).models
        found = {one.name: one for one in listed}
        assert found["bad"].status == model_pb2.MODEL_STATUS_FAILED
        assert found["bad"].failure
        assert len(found["bad"].failure) <= 1_001
        (handle,) = await caller.open("good", "a")
        await caller.step(handle, 0, random.standard_normal((4, 3)).astype(np.float32))


async def test_files_that_are_no_files_and_versions_that_are_no_numbers_hold_up_nothing(
    repository: Path, tmp_path: Path
) -> None:
    """A pipe nobody writes to, a version beyond 32 bits, and a name that is no text."""
    shutil.copytree(repository / "steps" / "1", tmp_path / "good" / "1")
    shutil.copytree(repository / "steps" / "1", tmp_path / "good" / str(2**32))
    shutil.copytree(repository / "steps" / "1", tmp_path / "piped" / "1")
    shutil.copytree(repository / "steps" / "1", tmp_path / "default-piped" / "1")
    shutil.copytree(repository / "steps" / "1", Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe/1")))
    os.mkfifo(tmp_path / "piped" / "1" / "model.toml")
    os.mkfifo(tmp_path / "default-piped" / "model.toml")
    async with running_server(tmp_path) as address, connect(address) as caller:
        listed = (await caller.models.ListModels(model_pb2.ListModelsRequest())).models
        assert {(one.name, one.version): one.failure for one in listed} == {
            ("default-piped", 1): "default-piped/model.toml: expected an ordinary file",
            ("good", 1): f"good/{2**32}: expected a version up to {2**32 - 1}",
            ("piped", 1): "piped/1/model.toml: expected an ordinary file",
        }
        assert [one.status for one in listed] == [
            model_pb2.MODEL_STATUS_READY,
            model_pb2.MODEL_STATUS_READY,
            model_pb2.MODEL_STATUS_FAILED,
        ]


@pytest.mark.parametrize("where", ["version", "model"])
def test_a_small_declaration_does_not_take_much_memory(repository: Path, tmp_path: Path, where: str) -> None:
    """A key of 20,000 parts, 40 KB, took 1.4 GB."""
    shutil.copytree(repository / "steps" / "1", tmp_path / "deep" / "1")
    folder = tmp_path / "deep" / ("1" if where == "version" else "")
    (folder / "model.toml").write_text(".".join(["a"] * 20_000) + " = 1\n")
    tracemalloc.start()
    try:
        if where == "version":
            with pytest.raises(ServiceError, match="expected keys of at most 16 parts"):
                read_package("deep", 1, folder)
        else:
            mistakes = scan_repository(tmp_path).mistakes
            assert mistakes == {"deep": "deep/model.toml: expected keys of at most 16 parts"}
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
