"""Replaces inputs of a foreign graph by constants; free sizes follow other inputs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from statewise.export.base import SourceError


def make_constants(file: Path, model: onnx.ModelProto, constants: Mapping[str, float]) -> None:
    """Replaces inputs by tensors of one number.

    Raises:
        SourceError: no such input, or a free size that no other input has.
    """
    for name, value in constants.items():
        entry = next((entry for entry in model.graph.input if entry.name == name), None)
        if entry is None:
            names = ", ".join(repr(entry.name) for entry in model.graph.input)
            raise SourceError(file, f"constant {name!r}: expected one of {names}")
        model.graph.input.remove(entry)
        tensor = entry.type.tensor_type
        kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        sizes = tensor.shape.dim
        if all(size.HasField("dim_value") for size in sizes):
            array = np.full([size.dim_value for size in sizes], value, kind)
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        else:
            _expand(file, model.graph, entry, np.full((), value, kind))


def _expand(file: Path, graph: onnx.GraphProto, entry: onnx.ValueInfoProto, number: np.ndarray) -> None:
    """Adds nodes that give a tensor of one number, with the free sizes of other inputs."""
    name = entry.name
    nodes, parts = [], []
    for axis, size in enumerate(entry.type.tensor_type.shape.dim):
        part = f"{name}/size_{axis}"
        parts.append(part)
        if size.HasField("dim_value"):
            graph.initializer.append(numpy_helper.from_array(np.array([size.dim_value]), part))
            continue
        found = _axis_of_size(graph, size.dim_param)
        if found is None:
            symbol = size.dim_param or f"{name}.{axis}"
            raise SourceError(
                file,
                f"constant {name!r}: expected sizes of other inputs, or fixed ones (--size {symbol}=N)",
            )
        source, index = found
        nodes.append(helper.make_node("Shape", [source], [part], start=index, end=index + 1))
    graph.initializer.append(numpy_helper.from_array(number, f"{name}/number"))
    nodes.append(helper.make_node("Concat", parts, [f"{name}/shape"], axis=0))
    nodes.append(helper.make_node("Expand", [f"{name}/number", f"{name}/shape"], [name]))
    others = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *others])


def _axis_of_size(graph: onnx.GraphProto, symbol: str) -> tuple[str, int] | None:
    """Finds an input and its axis of a free size of that name."""
    for entry in graph.input:
        for axis, size in enumerate(entry.type.tensor_type.shape.dim):
            if symbol and size.dim_param == symbol:
                return entry.name, axis
    return None
