"""Imports and verifies hostile files: a clear error, no crash, nothing read outside the package."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tests.export.checkpoints import make_checkpoint

from statewise.export import (
    ExportError,
    PackageError,
    export_checkpoint,
    import_onnx,
    read_package,
    verify_package,
)
from statewise.export.base import run_options

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def tensor(name: str, shape: Sequence[int | str], dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[TensorProto] = (),
    *,
    opset: int = 17,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
) -> Path:
    """A step graph x, s_in [B, 2] -> y, s_out around some nodes that give `extra` [..., 2]."""
    around = [
        helper.make_node("Add", ["x", "s_in"], ["s_out"]),
        helper.make_node("Add", ["s_out", "extra"], ["y"]),
    ]
    graph = helper.make_graph(
        [*nodes, *around],
        "hostile",
        [tensor("x", ["B", 2]), tensor("s_in", ["B", 2])],
        [tensor("y", ["B", 2]), tensor("s_out", ["B", 2])],
        list(constants),
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))
    path.write_bytes(model.SerializeToString())
    return path


def huge_initialiser(path: Path) -> Path:
    huge = TensorProto(name="extra", data_type=FLOAT, dims=[2**40, 2])
    return save(path, [], [huge])


def short_initialiser(path: Path) -> Path:
    short = TensorProto(name="extra", data_type=FLOAT, dims=[1000, 2], raw_data=b"1234")
    return save(path, [], [short])


def negative_initialiser(path: Path) -> Path:
    return save(path, [], [TensorProto(name="extra", data_type=FLOAT, dims=[-5, 2])])


def external_initialiser(path: Path) -> Path:
    (path.parent / "secret").write_bytes(b"\0" * 8)
    outside = TensorProto(name="extra", data_type=FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="../secret")
    return save(path, [], [outside])


def huge_constant_of_shape(path: Path) -> Path:
    shape = helper.make_tensor("shape", INT64, [2], [2**40, 2])
    return save(path, [helper.make_node("ConstantOfShape", ["shape"], ["extra"])], [shape])


def function_bomb(path: Path) -> Path:
    """Forty functions, each calling the next twice: 2^40 nodes."""
    functions = [
        helper.make_function(
            "bomb",
            f"f{n}",
            ["a"],
            ["c"],
            [
                helper.make_node(f"f{n + 1}", ["a"], ["b"], domain="bomb"),
                helper.make_node(f"f{n + 1}", ["b"], ["c"], domain="bomb"),
            ],
            [helper.make_opsetid("bomb", 1), helper.make_opsetid("", 17)],
        )
        for n in range(40)
    ]
    last = helper.make_function(
        "bomb", "f40", ["a"], ["c"], [helper.make_node("Neg", ["a"], ["c"])], [helper.make_opsetid("", 17)]
    )
    node = helper.make_node("f0", ["x"], ["extra"], domain="bomb")
    return save(path, [node], functions=[*functions, last], domains=["bomb"])


def recursive_function(path: Path) -> Path:
    own = helper.make_function(
        "bomb",
        "f",
        ["a"],
        ["b"],
        [helper.make_node("f", ["a"], ["b"], domain="bomb")],
        [helper.make_opsetid("bomb", 1)],
    )
    return save(
        path, [helper.make_node("f", ["x"], ["extra"], domain="bomb")], functions=[own], domains=["bomb"]
    )


def future_opset(path: Path) -> Path:
    return save(path, [helper.make_node("Neg", ["x"], ["extra"])], opset=9999)


def unknown_operator(path: Path) -> Path:
    return save(path, [helper.make_node("Explode", ["x"], ["extra"])])


def cycle(path: Path) -> Path:
    nodes = [helper.make_node("Neg", ["extra"], ["a"]), helper.make_node("Neg", ["a"], ["extra"])]
    return save(path, nodes)


MakeFile = Callable[[Path], Path]
FILES: dict[MakeFile, str] = {
    huge_initialiser: "'extra': expected at most 2,147,483,647 elements",
    short_initialiser: "expected a sound ONNX graph|initializer|raw_data|extra",
    negative_initialiser: "'extra': expected at most",
    external_initialiser: "expected weights inside the file or in its folder; those of 'extra' are in",
    huge_constant_of_shape: "'extra': expected at most 2,147,483,647 elements",
    function_bomb: "expected at most 1,000,000 nodes; the graph expands to more",
    recursive_function: "expected functions that do not call themselves; 'f' does",
    future_opset: "expected a sound ONNX graph|opset",
    unknown_operator: "expected a sound ONNX graph: No Op registered for Explode",
    cycle: "expected a sound ONNX graph: Nodes in a graph must be topologically sorted",
}


@pytest.mark.parametrize(
    ("make_file", "complaint"), FILES.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_a_hostile_file_is_an_error(tmp_path: Path, make_file: MakeFile, complaint: str) -> None:
    folder = tmp_path / "files"
    folder.mkdir()

    with pytest.raises(ExportError, match=complaint):
        import_onnx(make_file(folder / "m.onnx"), tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize("make_file", FILES, ids=lambda value: value.__name__)
def test_verifying_it_is_an_error_or_a_failed_check(tmp_path: Path, make_file: MakeFile) -> None:
    """The same graphs with a package's metadata."""
    sound = onnx.load(export_checkpoint(make_checkpoint(), tmp_path) / "model.onnx")
    model = onnx.load(make_file(tmp_path / "m.onnx"), load_external_data=False)
    model.metadata_props.extend(sound.metadata_props)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())

    passed = False
    with contextlib.suppress(PackageError):
        passed = verify_package(tmp_path / "m.onnx").passed
    assert not passed


def test_a_loop_without_end_is_stopped(tmp_path: Path) -> None:
    """2^62 rounds, of which the time limit lets some through."""
    body = helper.make_graph(
        [helper.make_node("Add", ["a", "a"], ["b"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [tensor("i", [], INT64), tensor("go", [], BOOL), tensor("a", ["B", 2])],
        [tensor("on", [], BOOL), tensor("b", ["B", 2])],
    )
    rounds = helper.make_tensor("rounds", INT64, [], [2**62])
    loop = helper.make_node("Loop", ["rounds", "", "x"], ["extra"], body=body)
    file = save(tmp_path / "m.onnx", [loop], [rounds])
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    zeros = np.zeros((1, 2), np.float32)

    with run_options(0.05) as options, pytest.raises(Exception, match=r"[Tt]erminate"):
        session.run(["y"], {"x": zeros, "s_in": zeros}, options)


def test_a_link_out_of_the_package_is_not_followed(tmp_path: Path) -> None:
    package = export_checkpoint(make_checkpoint(), tmp_path / "repository")
    outside = tmp_path / "outside.onnx"
    (package / "model.onnx").rename(outside)
    (package / "model.onnx").symlink_to(outside)

    with pytest.raises(PackageError, match=r"expected model\.onnx in the folder; it is a link to"):
        read_package(package)


@pytest.mark.parametrize("length", range(0, 4000, 97))
def test_a_file_cut_anywhere_is_an_error(tmp_path: Path, length: int) -> None:
    package = export_checkpoint(make_checkpoint(), tmp_path)
    file = package / "model.onnx"
    file.write_bytes(file.read_bytes()[:length])

    with pytest.raises(ExportError):
        import_onnx(file, tmp_path / "repository")
