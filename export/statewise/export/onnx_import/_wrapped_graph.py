"""A foreign graph inside one as packages have it: time-major, batch first in the state, one state a type.

Not a conversion: the foreign nodes stay as they are, in front and behind them axes are exchanged. A graph of
one step runs in a Scan over time, a graph of one row in a Scan over rows; what a row gets is then the same in
any batch, because nothing is batched.
"""

from collections.abc import Sequence

import numpy as np
import onnx

from statewise.export.graphs import GraphBuilder
from statewise.export.onnx_import._graph_axes import Axes, Layout
from statewise.export.onnx_import._tensor_roles import Discovery
from statewise.wire import CallShape, ModelSpec, StatePair, StatePart, TensorSpec

_PREFIX = "foreign/"
_LENGTHS = "lengths"


def canonical_spec(found: Discovery, layout: Layout, notes: dict[str, str]) -> ModelSpec:
    """What the canonical graph takes, gives and keeps."""
    per_step = [axes.time is not None or layout.one_step for axes in layout.inputs]
    outputs = tuple(
        TensorSpec(axes.value.name, axes.value.dtype, axes.shape, axes.time is not None or layout.one_step)
        for axes in layout.outputs
    )
    every_step = any(output.per_step for output in outputs)
    return ModelSpec(
        inputs=tuple(
            TensorSpec(axes.value.name, axes.value.dtype, axes.shape, steps)
            for axes, steps in zip(layout.inputs, per_step, strict=True)
        ),
        outputs=outputs,
        state=tuple(_pairs(layout)),
        call_shapes=(CallShape.MANY_TO_MANY if every_step else CallShape.MANY_TO_ONE,),
        lengths=None if found.lengths is None else _LENGTHS,
        notes=notes,
    )


def _groups(layout: Layout) -> dict[str, list[Axes]]:
    groups: dict[str, list[Axes]] = {}
    for axes in layout.state:
        groups.setdefault(axes.value.dtype, []).append(axes)
    return groups


def _pairs(layout: Layout) -> list[StatePair]:
    pairs = []
    for index, (dtype, members) in enumerate(_groups(layout).items()):
        suffix = f"_{dtype}" if index else ""
        parts, offset = [], 0
        for axes in members:
            size = int(np.prod(axes.shape))
            parts.append(StatePart(axes.value.name, offset, size))
            offset += size
        pairs.append(StatePair(f"state{suffix}", f"state{suffix}_out", dtype, (offset,), parts=tuple(parts)))
    return pairs


def build_canonical(
    model: onnx.ModelProto, found: Discovery, layout: Layout, spec: ModelSpec, *, metadata: dict[str, str]
) -> onnx.ModelProto:
    """The foreign model with the inputs and outputs that the spec describes."""
    graph = GraphBuilder()
    inputs, states = [], []
    for tensor in spec.inputs:
        axes = ("T", "B") if tensor.per_step else ("B",)
        inputs.append(graph.input(tensor.name, tensor.dtype, (*axes, *tensor.shape)))
    if found.lengths is not None:
        lengths = graph.input(_LENGTHS, "int32", ("B",))
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(found.lengths.dtype))
        graph.add("Cast", [lengths], _PREFIX + found.lengths.name, to=kind)
    for pair, members in zip(spec.state, _groups(layout).values(), strict=True):
        states += _split(graph, graph.input(pair.input, pair.dtype, ("B", *pair.shape)), pair, members)

    wrapper = _Wrapper(model, found, layout, spec)
    outputs, after = wrapper.rows(graph, inputs, states)

    for tensor, name in zip(spec.outputs, outputs, strict=True):
        axes = ("T", "B") if tensor.per_step else ("B",)
        graph.add("Identity", [name], tensor.name)
        graph.output(tensor.name, tensor.dtype, (*axes, *tensor.shape))
    by_name = dict(zip((axes.value.name for axes in layout.state), after, strict=True))
    for pair, members in zip(spec.state, _groups(layout).values(), strict=True):
        parts = [by_name[axes.value.name] for axes in members]
        graph.add("Concat", parts, pair.output, axis=1)
        graph.output(pair.output, pair.dtype, ("B", *pair.shape))
    return graph.model("statewise.foreign", doc=model.doc_string, metadata=metadata, adopted=model)


def _split(graph: GraphBuilder, state: str, pair: StatePair, members: Sequence[Axes]) -> list[str]:
    """The parts of a state, [B, size] each."""
    names = [f"{axes.value.name}.part" for axes in members]
    if len(names) == 1:
        return [graph.add("Identity", [state], names[0])]
    sizes = graph.constant(f"{pair.input}_sizes", [part.size for part in pair.parts])
    return graph.add_many("Split", [state, sizes], names, name=f"{pair.input}_parts", axis=1)


class _Wrapper:
    """The foreign graph with its layers around it: exchanged axes, a Scan over time, a Scan over rows."""

    def __init__(self, model: onnx.ModelProto, found: Discovery, layout: Layout, spec: ModelSpec) -> None:
        self._graph = onnx.GraphProto()
        self._graph.CopyFrom(model.graph)
        _add_prefix(self._graph)
        self._layout = layout
        self._spec = spec
        # Grouped by type, as the state tensors are.
        self._state = [axes for members in _groups(layout).values() for axes in members]
        self._after = {pair.input.name: pair.output.name for pair in found.state}

    def rows(self, graph: GraphBuilder, inputs: list[str], states: list[str]) -> tuple[list[str], list[str]]:
        """From inputs [T, B, ...] and states [B, size] to outputs and states alike."""
        if not self._layout.one_row:
            return self._steps(graph, inputs, states)
        body = GraphBuilder(graph)
        row_inputs = [
            body.input(
                f"{tensor.name}.row", tensor.dtype, (*(("T",) if tensor.per_step else ()), *tensor.shape)
            )
            for tensor in self._spec.inputs
        ]
        row_states = [
            body.input(f"{axes.value.name}.row_before", axes.value.dtype, (int(np.prod(axes.shape)),))
            for axes in self._state
        ]
        outputs, after = self._steps(body, row_inputs, row_states)
        for tensor, name in zip(self._spec.outputs, outputs, strict=True):
            body.output(name, tensor.dtype, (*(("T",) if tensor.per_step else ()), *tensor.shape))
        for axes, name in zip(self._state, after, strict=True):
            body.output(name, axes.value.dtype, (int(np.prod(axes.shape)),))
        gathered = [f"{name}.rows" for name in (*outputs, *after)]
        graph.add_many(
            "Scan",
            [*inputs, *states],
            gathered,
            name="row_by_row",
            body=body.body("row"),
            num_scan_inputs=len(inputs) + len(states),
            scan_input_axes=[int(tensor.per_step) for tensor in self._spec.inputs] + [0] * len(states),
            scan_output_axes=[int(tensor.per_step) for tensor in self._spec.outputs] + [0] * len(after),
        )
        return gathered[: len(outputs)], gathered[len(outputs) :]

    def _steps(
        self, graph: GraphBuilder, inputs: list[str], states: list[str]
    ) -> tuple[list[str], list[str]]:
        if not self._layout.one_step:
            return self._core(graph, inputs, states)
        rows: tuple[str, ...] = () if self._layout.one_row else ("B",)
        body = GraphBuilder(graph)
        before = [
            body.input(f"{axes.value.name}.before", axes.value.dtype, (*rows, int(np.prod(axes.shape))))
            for axes in self._state
        ]
        slices = [
            body.input(f"{tensor.name}.step", tensor.dtype, (*rows, *tensor.shape))
            for tensor in self._spec.inputs
        ]
        outputs, after = self._core(body, slices, before)
        for axes, name in zip(self._state, after, strict=True):
            body.output(name, axes.value.dtype, (*rows, int(np.prod(axes.shape))))
        for tensor, name in zip(self._spec.outputs, outputs, strict=True):
            body.output(name, tensor.dtype, (*rows, *tensor.shape))
        gathered = [f"{name}.steps" for name in (*after, *outputs)]
        graph.add_many(
            "Scan",
            [*states, *inputs],
            gathered,
            name="step_by_step",
            body=body.body("step"),
            num_scan_inputs=len(inputs),
        )
        return gathered[len(after) :], gathered[: len(after)]

    def _core(self, graph: GraphBuilder, inputs: list[str], states: list[str]) -> tuple[list[str], list[str]]:
        layout = self._layout
        for axes, name in zip(layout.inputs, inputs, strict=True):
            _into(graph, axes, name, _PREFIX + axes.value.name)
        for axes, name in zip(self._state, states, strict=True):
            head = [] if layout.one_row else [0]
            shape = graph.constant(f"{axes.value.name}.shape", [*head, *axes.shape])
            shaped = graph.add("Reshape", [name, shape], f"{axes.value.name}.shaped")
            _into(graph, axes, shaped, _PREFIX + axes.value.name)
        graph.adopt(self._graph)
        outputs = [_out_of(graph, axes, _PREFIX + axes.value.name) for axes in layout.outputs]
        after = []
        for axes in self._state:
            found = _out_of(graph, axes, _PREFIX + self._after[axes.value.name])
            flat = [int(np.prod(axes.shape))] if layout.one_row else [0, int(np.prod(axes.shape))]
            shape = graph.constant(f"{axes.value.name}.flat_shape", flat)
            after.append(graph.add("Reshape", [found, shape], f"{axes.value.name}.after"))
        return outputs, after


def _into(graph: GraphBuilder, axes: Axes, name: str, target: str) -> None:
    """Packages' order of axes to the foreign one."""
    kept = sorted(axes.order)
    perm = [axes.order.index(axis) for axis in kept]
    if perm != sorted(perm):
        name = graph.add("Transpose", [name], f"{target}.foreign_order", perm=perm)
    if axes.dropped:
        dropped = graph.constant(f"{target}.dropped", list(axes.dropped))
        graph.add("Unsqueeze", [name, dropped], target)
    else:
        graph.add("Identity", [name], target)


def _out_of(graph: GraphBuilder, axes: Axes, name: str) -> str:
    """The foreign order of axes to packages'."""
    if axes.dropped:
        dropped = graph.constant(f"{name}.dropped", list(axes.dropped))
        name = graph.add("Squeeze", [name, dropped], f"{name}.kept")
    kept = sorted(axes.order)
    perm = [kept.index(axis) for axis in axes.order]
    return graph.add("Transpose", [name], f"{name}.ours", perm=perm) if perm != sorted(perm) else name


def _add_prefix(graph: onnx.GraphProto) -> None:
    """Sets every name apart from ours; bodies use names of the graph around them, so they change alike."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = _PREFIX + value.name
    for constant in graph.initializer:
        constant.name = _PREFIX + constant.name
    for node in graph.node:
        node.name = _PREFIX + node.name if node.name else ""
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = _PREFIX + name if name else ""
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _add_prefix(attribute.g)
            for body in attribute.graphs:
                _add_prefix(body)
