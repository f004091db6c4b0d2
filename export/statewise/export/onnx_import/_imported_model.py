"""Reads an ONNX file from elsewhere and turns it into a graph and metadata as packages have them.

The file is untrusted: checks come before anything else, and no other file is opened. The package's model.toml
records the findings, each state with its evidence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter

from statewise.export.base import SourceError
from statewise.export.graphs import OPSET
from statewise.export.onnx_import._graph_axes import GraphAxes, find_axes
from statewise.export.onnx_import._state_exposure import expose_state
from statewise.export.onnx_import._tensor_roles import TensorRoles, find_roles
from statewise.export.onnx_import._wrapped_graph import wrap_graph, wrapped_spec
from statewise.export.package import MODEL_TOML, READ_GRAPH, check_graph, read_graph_file
from statewise.wire import METADATA_KEY, ModelSpec


@dataclass(frozen=True)
class ImportedModel:
    """A foreign graph in the form of packages.

    Attributes:
        model: The wrapped graph, with its metadata.
        spec: Inputs, outputs and states of that graph.
        reasons: Findings for people: the evidence for each state, and how the graph runs.
    """

    model: onnx.ModelProto
    spec: ModelSpec
    reasons: tuple[str, ...]

    def files(self) -> dict[str, bytes]:
        """The package's files, by name."""
        comments = "".join(f"# {reason}\n" for reason in self.reasons)
        return {
            READ_GRAPH: self.model.SerializeToString(deterministic=True),
            MODEL_TOML: (comments + "\n" + self.spec.to_toml()).encode(),
        }


def read_onnx(
    file: Path, *, state: Mapping[str, str], constants: Mapping[str, float], expose: bool
) -> ImportedModel:
    """Reads a foreign graph.

    Args:
        file: The .onnx file.
        state: Names of state outputs by those of state inputs, where the graph leaves a choice.
        constants: Values of inputs that are the same for every row, step and session.
        expose: Adds state inputs and outputs to recurrent operators that have none.

    Raises:
        PackageError: the file is no sound ONNX file.
        SourceError: roles or axes of its inputs and outputs stay open; naming what was found.
    """
    model = read_graph_file(file).model
    check_graph(file, model)
    if model.graph.sparse_initializer:
        raise SourceError(file, "expected dense constants; the graph has sparse ones")
    model = _at_least_opset(file, model)
    _make_constants(file, model, constants)
    reasons: list[str] = []
    if expose:
        model, reasons = expose_state(file, model)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    roles = find_roles(file, inferred.graph, declared=state)
    axes = find_axes(file, model.SerializeToString(), roles)
    reasons += _reasons(roles, axes)
    spec = wrapped_spec(roles, axes, {"imported_from": file.name})
    wrapped = wrap_graph(model, roles, axes, spec, metadata={METADATA_KEY: spec.to_json()})
    return ImportedModel(wrapped, spec, tuple(reasons))


def _at_least_opset(file: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset >= OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:
        # The converter raises plain RuntimeError and its own errors.
        reason = str(error).strip().splitlines()[0]
        raise SourceError(
            file, f"expected opset {OPSET}, or an older one that can be converted; got {opset}: {reason}"
        ) from None


def _make_constants(file: Path, model: onnx.ModelProto, constants: Mapping[str, float]) -> None:
    for name, value in constants.items():
        entry = next((entry for entry in model.graph.input if entry.name == name), None)
        if entry is None:
            names = ", ".join(repr(entry.name) for entry in model.graph.input)
            raise SourceError(file, f"constant {name!r}: expected one of {names}")
        tensor = entry.type.tensor_type
        if any(not size.HasField("dim_value") for size in tensor.shape.dim):
            raise SourceError(file, f"constant {name!r}: expected an input of fixed size")
        shape = [size.dim_value for size in tensor.shape.dim]
        array = np.full(shape, value, helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        model.graph.initializer.append(numpy_helper.from_array(array, name))
        model.graph.input.remove(entry)


def _reasons(roles: TensorRoles, axes: GraphAxes) -> list[str]:
    reasons = [
        f"state {match.input.name} -> {match.output.name}: {match.reason}; begins as zeros"
        for match in roles.state
    ]
    for source in axes.inputs:
        found = [
            f"{word} is axis {axis}"
            for word, axis in (("time", source.time), ("batch", source.batch))
            if axis is not None
        ]
        reasons.append(
            f"input {source.name} {list(source.tensor.sizes)}: {', '.join(found) or 'one row, one step'}"
        )
    if axes.one_row:
        reasons.append("the graph takes one row: rows of a batch run one after another, inside the graph")
    if axes.one_step:
        sizes = ", ".join(f"{source.name} {list(source.shape)}" for source in axes.inputs)
        reasons.append(f"the graph takes one step ({sizes}): steps run one after another, inside the graph")
    return reasons
