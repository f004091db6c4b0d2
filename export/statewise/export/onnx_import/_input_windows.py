"""Keeps earlier values of an input as a state, for graphs that read windows which overlap.

The window is the state and the new values, one after the other; its last values are the next state. The graph
that reads the window stays as it is.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from statewise.export.base import SourceError
from statewise.export.onnx_import.discovery import TIME_NAMES, ImportOptions
from statewise.wire import TIME, AxisWords


def add_windows(
    file: Path, model: onnx.ModelProto, options: ImportOptions
) -> tuple[ImportOptions, list[str]]:
    """Replaces the inputs of `options.hops` and `options.contexts` by new values and a state.

    Returns:
        The options for the changed graph, and what was done, for people.

    Raises:
        SourceError: no such input, no axis of the window, or a hop that does not fit it.
    """
    reasons = []
    for name in (*options.hops, *options.contexts):
        entry = next((entry for entry in model.graph.input if entry.name == name), None)
        if entry is None:
            names = ", ".join(repr(entry.name) for entry in model.graph.input)
            raise SourceError(file, f"hop {name!r}: expected one of {names}")
        axis = _window_axis(file, entry, options.axes.get(name))
        size = entry.type.tensor_type.shape.dim[axis]
        hop = _hop(file, name, size, options)
        context = options.contexts[name] if hop is None else size.dim_value - hop
        if hop is not None and name in options.axes:
            options = replace(options, axes={**options.axes, name: _with_size(options.axes[name], axis, hop)})
        if context:
            before, after = _split(model.graph, entry, axis, context)
            options = replace(options, state={**options.state, before: after})
            if name in options.axes:
                words = _with_size(options.axes[name], axis, context)
                options = replace(options, axes={**options.axes, before: words})
        new = "the others" if hop is None else str(hop)
        reasons.append(f"input {name}: {new} of a window are new; {context} before them are kept as a state")
    return options, reasons


def _window_axis(file: Path, entry: onnx.ValueInfoProto, axes: AxisWords | None) -> int:
    sizes = entry.type.tensor_type.shape.dim
    count = len(sizes)
    if axes is not None and TIME in axes[:count]:
        return axes.index(TIME)
    times = [axis for axis, size in enumerate(sizes) if size.dim_param.lower() in TIME_NAMES]
    if axes is None and len(times) == 1:
        return times[0]
    if axes is None and count > 2:
        raise SourceError(
            file,
            f"hop {entry.name!r}: expected to be told which axis is the window: name it time "
            f"(--axes {entry.name}=batch,time,...)",
        )
    if not count:
        raise SourceError(file, f"hop {entry.name!r}: expected an input with axes; it is a single number")
    return count - 1


def _hop(file: Path, name: str, size: onnx.TensorShapeProto.Dimension, options: ImportOptions) -> int | None:
    """Returns how many values of a window are new; None: all that follow the context, any number."""
    window, fixed = size.dim_value, size.HasField("dim_value")
    if name in options.contexts:
        if fixed and options.contexts[name] >= window:
            raise SourceError(
                file, f"context {name!r}: expected less than {window}; got {options.contexts[name]}"
            )
        return window - options.contexts[name] if fixed else None
    hop = options.hops[name]
    if not fixed:
        raise SourceError(file, f"hop {name!r}: expected a window of fixed size; give it one (--size)")
    if not 1 <= hop <= window:
        raise SourceError(file, f"hop {name!r}: expected 1 to the size of the window, {window}; got {hop}")
    return hop


def _split(graph: onnx.GraphProto, entry: onnx.ValueInfoProto, axis: int, context: int) -> tuple[str, str]:
    """Adds the window that the graph reads, and the state before and after it; returns the names of both."""
    name = entry.name
    window, before, after = (
        _unused(graph, f"{name}.{word}") for word in ("window", "context", "context_next")
    )
    _rename_reads(graph, name, window)
    size = entry.type.tensor_type.shape.dim[axis]
    if size.HasField("dim_value"):
        size.dim_value -= context
    kept = onnx.ValueInfoProto()
    kept.CopyFrom(entry)
    kept.name = before
    kept.type.tensor_type.shape.dim[axis].dim_value = context
    graph.input.append(kept)
    kept = graph.output.add()
    kept.CopyFrom(graph.input[-1])
    kept.name = after
    bounds = {"begin": -context, "end": np.iinfo(np.int64).max, "axis": axis}
    for word, number in bounds.items():
        graph.initializer.append(numpy_helper.from_array(np.array([number]), f"{after}.{word}"))
    nodes = [
        helper.make_node("Concat", [before, name], [window], axis=axis),
        helper.make_node("Slice", [window, *(f"{after}.{word}" for word in bounds)], [after]),
        *graph.node,
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    return before, after


def _with_size(axes: AxisWords, axis: int, size: int) -> AxisWords:
    return (*axes[:axis], size, *axes[axis + 1 :])


def _unused(graph: onnx.GraphProto, name: str) -> str:
    taken = {entry.name for entry in (*graph.input, *graph.output)} | {
        entry.name for entry in graph.initializer
    }
    taken |= {output for node in graph.node for output in node.output}
    while name in taken:
        name += "_"
    return name


def _rename_reads(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Renames a tensor where nodes read it, in bodies too, unless a body has its own of that name."""
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
        for attribute in node.attribute:
            for body in [attribute.g, *attribute.graphs]:
                if all(entry.name != old for entry in body.input):
                    _rename_reads(body, old, new)
