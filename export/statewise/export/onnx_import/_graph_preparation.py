"""Prepares a foreign graph: checks, weights, opset, constants and sizes; leaves its nodes as they are."""

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import version_converter

from statewise.export.base import SourceError
from statewise.export.graphs import OPSET
from statewise.export.onnx_import._constant_inputs import make_constants
from statewise.export.onnx_import._external_data import embed_external_data
from statewise.export.onnx_import.discovery import (
    STATE_INPUTS,
    DataFlow,
    ImportOptions,
    TensorRoles,
    node_title,
    read_names,
)
from statewise.export.package import check_graph, read_graph_file


def prepare_graph(file: Path, options: ImportOptions) -> tuple[onnx.ModelProto, list[str]]:
    """Reads and checks a file, and applies the user's constants and sizes.

    Returns:
        The model, with its weights inside, and what was done, for people.

    Raises:
        PackageError: the file is no sound ONNX file.
        SourceError: weights that cannot be read, an opset that cannot be converted, or options that do not
        fit.
    """
    model = read_graph_file(file, weights_outside=True).model
    reasons = [f"weights are taken from {name}" for name in embed_external_data(file, model)]
    check_graph(file, model)
    if model.graph.sparse_initializer:
        raise SourceError(file, "expected dense constants; the graph has sparse ones")
    model = _at_least_opset(file, model)
    make_constants(file, model, options.constants)
    _fix_sizes(file, model, options.sizes)
    return model, reasons


def without_the_rest(model: onnx.ModelProto, roles: TensorRoles) -> onnx.ModelProto:
    """Keeps only the inputs and outputs that have roles, and the nodes that these need."""
    states = [tensor.name for match in roles.state for tensor in (match.input, match.output)]
    lengths = [] if roles.lengths is None else [roles.lengths.name]
    kept = {*states, *lengths, *(tensor.name for tensor in (*roles.inputs, *roles.outputs))}
    smaller = onnx.ModelProto()
    smaller.CopyFrom(model)
    for entries in (smaller.graph.input, smaller.graph.output):
        for entry in [entry for entry in entries if entry.name not in kept]:
            entries.remove(entry)
    drop_unused_nodes(smaller.graph)
    return smaller


def drop_unused_nodes(graph: onnx.GraphProto) -> None:
    """Removes nodes whose outputs nothing reads."""
    while True:
        read = {name for node in graph.node for name in read_names(node)} | {
            entry.name for entry in graph.output
        }
        unused = [node for node in graph.node if not any(name in read for name in node.output)]
        if not unused:
            return
        for node in unused:
            graph.node.remove(node)


def refuse_fixed_steps(
    file: Path, graph: onnx.GraphProto, roles: TensorRoles, options: ImportOptions
) -> None:
    """Refuses operators that start with a state and read a fixed number of steps, unless the user gives the
    axes.

    Operators without such a state may read along another axis than time, as over the bands of a frame.

    Raises:
        SourceError: naming the operator and the number.
    """
    if options.axes:
        return
    flow = DataFlow(graph)
    titles = {title for match in roles.state for title, _ in flow.starts(match.input.name)}
    types = {entry.name: entry.type.tensor_type for entry in (*graph.input, *graph.value_info, *graph.output)}
    for node in graph.node:
        steps = fixed_steps(node, types)
        if steps is not None and node_title(node) in titles:
            raise SourceError(
                file,
                f"{node.op_type} {node.name!r} reads {steps} steps in every run: export the graph with a "
                "time axis of free size, or make the fixed axis part of a step (--axes INPUT=SIZE,batch,...)",
            )


def fixed_steps(node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto.Tensor]) -> int | None:
    """Returns the number of steps that a recurrent operator reads in every run, if it is fixed and not 1."""
    if node.op_type not in STATE_INPUTS or node.input[0] not in types:
        return None
    sizes = types[node.input[0]].shape.dim
    return sizes[0].dim_value if sizes and sizes[0].dim_value > 1 else None


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


def _fix_sizes(file: Path, model: onnx.ModelProto, sizes: Mapping[str, int]) -> None:
    """Replaces free sizes by numbers: by their symbol, or as INPUT.AXIS."""
    used = set()
    for entry in (*model.graph.input, *model.graph.output):
        for axis, size in enumerate(entry.type.tensor_type.shape.dim):
            for name in (size.dim_param, f"{entry.name}.{axis}"):
                if name in sizes and not size.HasField("dim_value"):
                    used.add(name)
                    size.dim_value = sizes[name]
    for name, number in sizes.items():
        if name not in used:
            free = {
                size.dim_param or f"{entry.name}.{axis}"
                for entry in model.graph.input
                for axis, size in enumerate(entry.type.tensor_type.shape.dim)
                if not size.HasField("dim_value")
            }
            known = ", ".join(map(repr, sorted(free))) or "none, all sizes are fixed"
            raise SourceError(file, f"size {name!r}: expected one of {known}")
        if number < 1:
            raise SourceError(file, f"size {name!r}: expected at least 1; got {number}")
