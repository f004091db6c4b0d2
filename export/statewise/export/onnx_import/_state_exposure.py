"""Adds state inputs and outputs to recurrent operators that have none: RNN, LSTM, GRU, Loop and Scan.

Does not handle operators that read backwards. Started from zeros, the new graph gives on whole sequences
what the old graph gave; a graph that starts from anything else is refused.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from statewise.export.base import SourceError
from statewise.export.onnx_import._graph_preparation import drop_unused_nodes, fixed_steps
from statewise.export.onnx_import.discovery import MOVING_OPERATORS, STATE_INPUTS, reads_forwards

_STATE_NAMES = {1: "h", 2: "c"}  # by index of the final state among the operator's outputs
_ZERO_MAKERS = (MOVING_OPERATORS - {"Flatten", "Split"}) | {"Shape", "Constant", "ConstantOfShape", "Tile"}
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)

_Types = Mapping[str, onnx.TypeProto.Tensor]


@dataclass(frozen=True)
class _HiddenState:
    """A state of an operator: where its initial and final values stand, and its name, type and sizes."""

    input_index: int
    output_index: int
    name: str
    element_type: int
    sizes: tuple[int | str, ...]


def expose_state(path: Path, model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Gives every recurrent operator of the graph state inputs and outputs.

    Returns:
        The new model, and one line for every exposed state.

    Raises:
        SourceError: there is no such operator, or one reads backwards or starts from anything but zeros.
    """
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    graph = exposed.graph
    types = {entry.name: entry.type.tensor_type for entry in _described(model)}
    done, passed_over = [], []
    for index, node in enumerate(list(graph.node)):
        title = node.name or f"{node.op_type.lower()}{index}"
        hidden: Iterable[_HiddenState] = ()
        if reason := _not_along_time(node, types):
            passed_over.append(f"{title}: {reason}")
        elif node.op_type in STATE_INPUTS:
            hidden = _states_of_operator(node, types)
        else:
            hidden = _states_of_loop(graph, node, types)
        done += [_expose_one(path, graph, node, title, state) for state in list(hidden)]
    if not done:
        if passed_over:
            raise SourceError(
                path,
                f"{passed_over[0]}; it cannot be streamed: import the graph for Predict alone (--stateless), "
                "or write a model.toml",
            )
        raise SourceError(
            path,
            "expected an RNN, LSTM, GRU, Loop or Scan operator whose state could be exposed; there is none; "
            "for Predict alone, without sessions, say so (--stateless), or write a model.toml",
        )
    drop_unused_nodes(graph)
    return exposed, done + [f"{line}; it is left as it is" for line in passed_over]


def _not_along_time(node: onnx.NodeProto, types: _Types) -> str | None:
    """Gives the reason why the state of a recurrent operator does not go on from run to run; None: it may."""
    if node.op_type not in STATE_INPUTS:
        return None
    if not reads_forwards(node):
        return "expected an operator that reads forwards"
    if any(entry.name == "layout" and entry.i for entry in node.attribute):
        return "expected layout 0; onnxruntime runs no other"
    steps = fixed_steps(node, types)
    return (
        None if steps is None else f"expected a time axis of free size; it reads {steps} steps in every run"
    )


def _states_of_operator(node: onnx.NodeProto, types: _Types) -> list[_HiddenState]:
    source = types.get(node.input[0], onnx.TypeProto.Tensor())
    hidden = next(entry.i for entry in node.attribute if entry.name == "hidden_size")
    sizes = (1, _batch_size(list(source.shape.dim)), hidden)
    kind = source.elem_type or TensorProto.FLOAT
    return [
        _HiddenState(before, after, _STATE_NAMES[after], kind, sizes)
        for before, after in STATE_INPUTS[node.op_type].items()
    ]


def _states_of_loop(graph: onnx.GraphProto, node: onnx.NodeProto, types: _Types) -> Iterator[_HiddenState]:
    """Yields the carried floats of a Loop or Scan that have axes; counters and conditions are no state."""
    if node.op_type not in ("Loop", "Scan"):
        return
    first = 2 if node.op_type == "Loop" else 0
    scanned = sum(entry.i for entry in node.attribute if entry.name == "num_scan_inputs")
    made = {output for maker in graph.node for output in maker.output}
    constants = {entry.name for entry in graph.initializer}
    for index in range(first, len(node.input) - scanned):
        name, after = node.input[index], index - first
        kind = types.get(name) or types.get(node.output[after]) or onnx.TypeProto.Tensor()
        if name not in made | constants or kind.elem_type not in _FLOATS or not kind.shape.dim:
            continue
        sizes = tuple(
            size.dim_value if size.HasField("dim_value") else size.dim_param or "batch"
            for size in kind.shape.dim
        )
        yield _HiddenState(index, after, f"state{after}", kind.elem_type, sizes)


def _expose_one(
    path: Path, graph: onnx.GraphProto, node: onnx.NodeProto, title: str, state: _HiddenState
) -> str:
    """Makes one state of a node an input and an output of the graph; returns a line that says so."""
    _extend(node.input, state.input_index + 1)
    _extend(node.output, state.output_index + 1)
    initial = node.input[state.input_index]
    if initial and not _is_zeros(graph, initial):
        raise SourceError(
            path,
            f"{title}: expected a start from zeros; it starts from {initial!r}: export the graph with the "
            "state as an input, or import it for Predict alone (--stateless)",
        )
    before, after = f"{title}.{state.name}", f"{title}.{state.name}_out"
    node.input[state.input_index] = before
    old = node.output[state.output_index]
    node.output[state.output_index] = after
    graph.input.append(helper.make_tensor_value_info(before, state.element_type, state.sizes))
    graph.output.append(helper.make_tensor_value_info(after, state.element_type, state.sizes))
    if old:
        _rename_reads(graph, old, after)
    return f"{before} -> {after}: exposed by import"


def _described(model: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    yield from (*inferred.input, *inferred.value_info, *inferred.output)


def _batch_size(sizes: list[onnx.TensorShapeProto.Dimension]) -> int | str:
    """Returns B of an operator's X [T, B, I]."""
    if len(sizes) != 3:
        return "batch"
    return sizes[1].dim_value if sizes[1].HasField("dim_value") else sizes[1].dim_param or "batch"


def _extend(names: Any, count: int) -> None:
    """Adds empty names for omitted inputs or outputs, until there are `count`."""
    while len(names) < count:
        names.append("")


def _is_zeros(graph: onnx.GraphProto, name: str) -> bool:
    """Returns whether a tensor is computed from zeros and shapes alone."""
    stored = {entry.name: entry for entry in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    todo, seen = [name], set()
    while todo:
        current = todo.pop()
        if current in seen or not current:
            continue
        seen.add(current)
        if current in stored:
            if numpy_helper.to_array(stored[current]).any():
                return False
            continue
        node = makers.get(current)
        if node is None or node.op_type not in _ZERO_MAKERS or not _adds_zeros_only(node):
            return False
        if node.op_type not in ("Constant", "ConstantOfShape", "Shape"):
            # Except for Concat, the other inputs of these operators are shapes and indices.
            todo += node.input if node.op_type == "Concat" else node.input[:1]
    return True


def _adds_zeros_only(node: onnx.NodeProto) -> bool:
    """Returns whether a node's own value is zero; ConstantOfShape without a value fills with zeros."""
    if node.op_type not in ("Constant", "ConstantOfShape"):
        return True
    value = next((entry.t for entry in node.attribute if entry.name == "value"), None)
    if value is None:
        return node.op_type == "ConstantOfShape"
    return not numpy_helper.to_array(value).any()


def _rename_reads(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
    for entry in graph.output:
        if entry.name == old:
            graph.node.append(helper.make_node("Identity", [new], [old]))
