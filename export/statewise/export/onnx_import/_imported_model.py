"""Somebody else's ONNX file as a package: read, checked, understood, wrapped.

Not trust: the file is checked before anything else looks at it, and only its own bytes are used. What was
found is in the package's model.toml, each state with its reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter

from statewise.export.base import SourceError
from statewise.export.graphs import OPSET
from statewise.export.onnx_import._graph_axes import Layout, find_layout
from statewise.export.onnx_import._state_exposure import expose_state
from statewise.export.onnx_import._tensor_roles import Discovery, discover
from statewise.export.onnx_import._wrapped_graph import build_canonical, canonical_spec
from statewise.export.package import MODEL_TOML, READ_GRAPH, check_graph, read_graph_file
from statewise.wire import METADATA_KEY, ModelSpec


@dataclass(frozen=True)
class ForeignModel:
    """A foreign graph, understood.

    Attributes:
        model: In the form packages have.
        spec: What it takes, gives and keeps.
        reasons: For people: why each state is one, and how the graph runs.
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


def read_foreign(
    file: Path, *, state: Mapping[str, str], constants: Mapping[str, float], expose: bool
) -> ForeignModel:
    """Reads a foreign graph.

    Args:
        file: The .onnx file.
        state: State outputs by state input, where the graph does not say.
        constants: Numbers for inputs that are the same for every row, step and session.
        expose: Gives recurrent operators without state inputs and outputs some.

    Raises:
        PackageError: the file is no sound ONNX file.
        SourceError: it is not understood; naming what was seen.
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
    found = discover(file, inferred.graph, declared=state)
    layout = find_layout(file, model.SerializeToString(), found)
    reasons += _reasons(found, layout)
    notes = {"imported_from": file.name}
    spec = canonical_spec(found, layout, notes)
    canonical = build_canonical(model, found, layout, spec, metadata={METADATA_KEY: spec.to_json()})
    return ForeignModel(canonical, spec, tuple(reasons))


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


def _reasons(found: Discovery, layout: Layout) -> list[str]:
    reasons = [
        f"state {pair.input.name} -> {pair.output.name}: {pair.reason}; begins as zeros"
        for pair in found.state
    ]
    for axes in layout.inputs:
        places = [
            f"{word} is axis {axis}"
            for word, axis in (("time", axes.time), ("batch", axes.batch))
            if axis is not None
        ]
        reasons.append(
            f"input {axes.value.name} {list(axes.value.dims)}: {', '.join(places) or 'one row, one step'}"
        )
    if layout.one_row:
        reasons.append("the graph takes one row: rows of a batch run one after another, inside the graph")
    if layout.one_step:
        sizes = ", ".join(f"{axes.value.name} {list(axes.shape)}" for axes in layout.inputs)
        reasons.append(f"the graph takes one step ({sizes}): steps run one after another, inside the graph")
    return reasons
