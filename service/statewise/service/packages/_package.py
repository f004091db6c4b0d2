"""Reads a version folder, <repository>/<model>/<version>/, and checks its description against its graph.

The description is the graph's metadata, overridden by model.toml. Nothing is loaded for serving. The digest
covers every file, so equal digests mean equal behaviour.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from statewise.service.base import ServiceError
from statewise.service.engine import GraphLayout, why_not_loaded
from statewise.service.packages._axes import GraphValue
from statewise.service.packages._declarations import declare, override, place_of
from statewise.service.packages._graph_spec import complete_spec
from statewise.service.packages._initial_files import with_initial_states
from statewise.service.packages._small_files import read_text
from statewise.wire import METADATA_KEY, MetadataError, ModelDeclaration, ModelSpec, Reason, Sharing

MODEL_TOML = "model.toml"
_BLOCK_BYTES = 2**20

_ORT_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    **{f"tensor({name})": name for name in ("int8", "int16", "int32", "int64")},
    **{f"tensor({name})": name for name in ("uint8", "uint16", "uint32", "uint64", "bool")},
}


@dataclass(frozen=True)
class ServablePackage:
    """A model version on disk.

    Attributes:
        name: Name of the model's folder.
        version: At least 1.
        folder: The version's folder.
        digest: sha256 over names and contents of all files, hexadecimal.
        spec: Inputs, outputs and states of the read graph.
        layout: The axes of a graph that is not in the form of packages; None: it is.
        sharing: Classes of the load-time test whose rows may share runs.
        stepwise: Whether sessions are wanted although steps give other numbers than the whole sequence.
    """

    name: str
    version: int
    folder: Path
    digest: str
    spec: ModelSpec
    layout: GraphLayout | None = None
    sharing: Sharing = Sharing.EXACT
    stepwise: bool = False

    @property
    def graph(self) -> Path:
        """Path of the read graph."""
        return self.folder / "model.onnx"


def read_package(name: str, version: int, folder: Path) -> ServablePackage:
    """Reads a version folder.

    Raises:
        ServiceError: PACKAGE_INVALID, naming the file and what is wrong with it.
    """
    graph = folder / "model.onnx"
    if not graph.is_file():
        raise _invalid(f"{name}/{version} has no model.onnx")
    digest = _digest(folder)
    session = _open_graph(f"{name}/{version}/model.onnx", graph)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    metadata = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    text = _read_model_toml(f"{name}/{version}/{MODEL_TOML}", folder / MODEL_TOML)
    declared = None if text is None else _declaration(f"{name}/{version}/{MODEL_TOML}", text)
    if metadata is None and declared is None:
        raise _invalid(
            f"{name}/{version}/model.onnx has no {METADATA_KEY!r} metadata, and no {MODEL_TOML} beside it "
            "declares its state: make a package of it with `statewise import`, or write one. "
            f"The graph takes {_described(inputs)} and gives {_described(outputs)}"
        )
    where = f"{name}/{version}/{MODEL_TOML if declared else 'model.onnx'}"
    try:
        spec = None if metadata is None else ModelSpec.from_json(metadata)
        if spec is not None and declared is None and all(pair.batch_axis == 0 for pair in spec.state):
            _check_against_graph(where, spec, inputs, outputs)
            return ServablePackage(name, version, folder, digest, spec)
        declaration = declared or ModelDeclaration()
        if spec is not None:
            declaration = override(declare(spec), declaration)
        declaration = with_initial_states(declaration, folder)
        spec, layout = complete_spec(declaration, _values(inputs), _values(outputs))
    except MetadataError as error:
        place = "" if declared is None else place_of(str(error), declared, text or "")
        raise _invalid(f"{where}: {error}{place}") from error
    return ServablePackage(
        name, version, folder, digest, spec, layout, declaration.batch, declaration.stepwise
    )


def _described(entries: Sequence[Any]) -> str:
    """Describes inputs or outputs with type and shape, for a message."""
    return ", ".join(f"{name} {value.dtype} {list(value.dims)}" for name, value in _values(entries).items())


def _read_model_toml(where: str, path: Path) -> str | None:
    try:
        return read_text(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _invalid(f"{where}: {error.strerror}") from error
    except ValueError as error:
        raise _invalid(f"{where}: {error}") from error


def _declaration(where: str, text: str) -> ModelDeclaration:
    try:
        return ModelDeclaration.from_toml(text)
    except MetadataError as error:
        raise _invalid(f"{where}: {error}") from error


def _values(entries: Sequence[Any]) -> dict[str, GraphValue]:
    return {
        entry.name: GraphValue(_ORT_DTYPES.get(entry.type, entry.type), tuple(entry.shape))
        for entry in entries
    }


def check_graph(where: str, path: Path, spec: ModelSpec) -> None:
    """Checks that an auxiliary graph exists and is what the metadata says.

    Raises:
        ServiceError: PACKAGE_INVALID, naming `where` and what is wrong.
    """
    if not path.is_file():
        raise _invalid(f"{where}: the metadata promises this graph, and it is missing")
    session = _open_graph(where, path)
    _check_against_graph(where, spec, session.get_inputs(), session.get_outputs())


def _open_graph(where: str, graph: Path) -> Any:
    """Opens a session that describes the graph: not optimised, and not for running."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _invalid(f"{where}: onnxruntime cannot load it: {why_not_loaded(error)}") from error


def _invalid(message: str) -> ServiceError:
    return ServiceError(Reason.PACKAGE_INVALID, message)


def _digest(folder: Path) -> str:
    """Computes the sha256 over (name, size, contents) of the folder's files, sorted by name."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = path.stat().st_size
        total.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                total.update(block)
    return total.hexdigest()


def _check_against_graph(
    where: str, spec: ModelSpec, graph_inputs: Sequence[Any], graph_outputs: Sequence[Any]
) -> None:
    """Raises unless the graph has every name of the spec, with its type and rank, and no other input."""
    inputs = {entry.name: entry for entry in graph_inputs}
    outputs = {entry.name: entry for entry in graph_outputs}
    expected_inputs = {entry.name: (entry.dtype, _axes(entry.shape, entry.per_step)) for entry in spec.inputs}
    expected_outputs = {
        entry.name: (entry.dtype, _axes(entry.shape, entry.per_step)) for entry in spec.outputs
    }
    for pair in spec.state:
        expected_inputs[pair.input] = expected_outputs[pair.output] = (pair.dtype, ("batch", *pair.shape))
    if spec.lengths is not None:
        expected_inputs[spec.lengths] = ("int32", ("batch",))
    for present, expected, kind in (
        (inputs, expected_inputs, "input"),
        (outputs, expected_outputs, "output"),
    ):
        for name, (dtype, axes) in expected.items():
            if name not in present:
                raise _invalid(f"{where}: the metadata names {kind} {name!r}, which the graph does not have")
            entry = present[name]
            if _ORT_DTYPES.get(entry.type) != dtype or not _fits(entry.shape, axes):
                raise _invalid(
                    f"{where}: {kind} {name!r}: expected {dtype} {list(axes)}; got {entry.type} {entry.shape}"
                )
    for name in inputs:
        if name not in expected_inputs:
            raise _invalid(f"{where}: the graph's input {name!r} is not described in its metadata")


def _axes(shape: tuple[int, ...], per_step: bool) -> tuple[str | int, ...]:
    return ("time", "batch", *shape) if per_step else ("batch", *shape)


def _fits(sizes: Sequence[Any], axes: tuple[str | int, ...]) -> bool:
    """Whether rank is the same, batch and time have free sizes, and no other size contradicts the spec."""
    if len(sizes) != len(axes):
        return False
    return all(
        not isinstance(size, int) if isinstance(axis, str) else (size == axis or not isinstance(size, int))
        for size, axis in zip(sizes, axes, strict=True)
    )
