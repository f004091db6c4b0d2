"""State inputs and outputs for recurrent operators that have none.

Not for graphs that read backwards or keep state in a Loop. On whole sequences the new graph, started from
zeros, gives what the old one gave; one that starts from something else than zeros is refused.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from statewise.export.base import SourceError
from statewise.export.onnx_import._tensor_roles import read_names

_STATES = {"RNN": {5: 1}, "GRU": {5: 1}, "LSTM": {5: 1, 6: 2}}  # initial state -> the output that succeeds it
_NAMES = {1: "h", 2: "c"}
_ZERO_MAKERS = frozenset(
    {
        *(
            "Shape",
            "Constant",
            "ConstantOfShape",
            "Expand",
            "Concat",
            "Gather",
            "Unsqueeze",
            "Squeeze",
            "Cast",
        ),
        *("Slice", "Reshape", "Identity", "Transpose"),
    }
)


def expose_state(path: Path, model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Gives every recurrent operator of the graph state inputs and outputs.

    Returns:
        The new model, and for people what was done.

    Raises:
        SourceError: there is no such operator, or one reads backwards, or starts from other than zeros.
    """
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    graph = exposed.graph
    known = {entry.name: list(entry.type.tensor_type.shape.dim) for entry in _described(model)}
    done = []
    for index, node in enumerate(node for node in graph.node if node.op_type in _STATES):
        title = node.name or f"{node.op_type.lower()}{index}"
        if any(entry.name == "direction" and entry.s != b"forward" for entry in node.attribute):
            raise SourceError(
                path, f"{title}: expected an operator that reads forwards; it cannot be streamed"
            )
        if any(entry.name == "layout" and entry.i for entry in node.attribute):
            raise SourceError(path, f"{title}: expected layout 0; onnxruntime runs no other")
        hidden = next(entry.i for entry in node.attribute if entry.name == "hidden_size")
        rows = _rows(known.get(node.input[0]))
        for place, output in _STATES[node.op_type].items():
            _extend(node.input, place + 1)
            _extend(node.output, output + 1)
            given = node.input[place]
            if given and not _is_zeros(graph, given):
                raise SourceError(
                    path,
                    f"{title}: expected a start from zeros; it starts from {given!r}",
                )
            before, after = f"{title}.{_NAMES[output]}", f"{title}.{_NAMES[output]}_out"
            node.input[place] = before
            old = node.output[output]
            node.output[output] = after
            shape = [1, rows, hidden]
            graph.input.append(helper.make_tensor_value_info(before, TensorProto.FLOAT, shape))
            graph.output.append(helper.make_tensor_value_info(after, TensorProto.FLOAT, shape))
            if old:
                _rename_reads(graph, old, after)
            done.append(f"{before} -> {after}: exposed by import")
    if not done:
        raise SourceError(
            path, "expected an RNN, LSTM or GRU operator whose state could be exposed; there is none"
        )
    _drop_unused(graph)
    return exposed, done


def _described(model: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    yield from (*inferred.input, *inferred.value_info, *inferred.output)


def _rows(dims: list[onnx.TensorShapeProto.Dimension] | None) -> int | str:
    """The batch size of an operator's X [T, B, I]."""
    if dims is None or len(dims) != 3:
        return "batch"
    return dims[1].dim_value if dims[1].HasField("dim_value") else dims[1].dim_param or "batch"


def _extend(names: Any, count: int) -> None:
    """Adds left-out inputs or outputs to a node's, up to so many."""
    while len(names) < count:
        names.append("")


def _is_zeros(graph: onnx.GraphProto, name: str) -> bool:
    """Whether a tensor is made of zeros and shapes alone."""
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
        if node is None or node.op_type not in _ZERO_MAKERS:
            return False
        if node.op_type == "Constant":
            value = next((entry.t for entry in node.attribute if entry.name == "value"), None)
            if value is None or numpy_helper.to_array(value).any():
                return False
        elif node.op_type == "ConstantOfShape":
            value = next((entry.t for entry in node.attribute if entry.name == "value"), None)
            if value is not None and numpy_helper.to_array(value).any():
                return False
        elif node.op_type != "Shape":
            # Of these operators only the first input's numbers get through; Concat joins all.
            todo += node.input if node.op_type == "Concat" else node.input[:1]
    return True


def _rename_reads(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
    for entry in graph.output:
        if entry.name == old:
            graph.node.append(helper.make_node("Identity", [new], [old]))


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Removes the nodes that only made initial states."""
    while True:
        read = {name for node in graph.node for name in read_names(node)} | {
            entry.name for entry in graph.output
        }
        unused = [node for node in graph.node if not any(name in read for name in node.output)]
        if not unused:
            return
        for node in unused:
            graph.node.remove(node)
