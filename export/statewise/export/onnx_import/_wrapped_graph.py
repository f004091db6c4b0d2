"""Wraps a foreign graph into a graph of the form of packages: time-major, one state [B, S] for each type.

The foreign nodes stay as they are; layers before and behind them exchange axes. A graph of one step runs in a
Scan over time. A graph of one row runs in a Scan over rows, so a row's result is the same in any batch.
"""

from collections.abc import Sequence

import numpy as np
import onnx

from statewise.export.graphs import GraphBuilder
from statewise.export.onnx_import._graph_axes import GraphAxes, TensorAxes
from statewise.export.onnx_import._tensor_roles import TensorRoles
from statewise.wire import CallShape, ModelSpec, StatePair, StatePart, TensorSpec

_PREFIX = "foreign/"
_LENGTHS = "lengths"


def wrapped_spec(roles: TensorRoles, axes: GraphAxes, notes: dict[str, str]) -> ModelSpec:
    """Inputs, outputs and states of the wrapped graph."""
    outputs = tuple(_tensor_spec(output, axes) for output in axes.outputs)
    every_step = any(output.per_step for output in outputs)
    return ModelSpec(
        inputs=tuple(_tensor_spec(source, axes) for source in axes.inputs),
        outputs=outputs,
        state=tuple(_state_pairs(axes)),
        call_shapes=(CallShape.MANY_TO_MANY if every_step else CallShape.MANY_TO_ONE,),
        lengths=None if roles.lengths is None else _LENGTHS,
        notes=notes,
    )


def _tensor_spec(tensor: TensorAxes, axes: GraphAxes) -> TensorSpec:
    per_step = tensor.time is not None or axes.one_step
    return TensorSpec(tensor.name, tensor.tensor.dtype, tensor.shape, per_step)


def _state_by_type(axes: GraphAxes) -> dict[str, list[TensorAxes]]:
    groups: dict[str, list[TensorAxes]] = {}
    for state in axes.state:
        groups.setdefault(state.tensor.dtype, []).append(state)
    return groups


def _state_pairs(axes: GraphAxes) -> list[StatePair]:
    pairs = []
    for index, (dtype, members) in enumerate(_state_by_type(axes).items()):
        suffix = f"_{dtype}" if index else ""
        parts, offset = [], 0
        for state in members:
            size = _size(state)
            parts.append(StatePart(state.name, offset, size))
            offset += size
        pairs.append(StatePair(f"state{suffix}", f"state{suffix}_out", dtype, (offset,), parts=tuple(parts)))
    return pairs


def _size(state: TensorAxes) -> int:
    return int(np.prod(state.shape))


def wrap_graph(
    model: onnx.ModelProto, roles: TensorRoles, axes: GraphAxes, spec: ModelSpec, *, metadata: dict[str, str]
) -> onnx.ModelProto:
    """The foreign model with the inputs and outputs that the spec describes."""
    graph = GraphBuilder()
    inputs, states = [], []
    for tensor in spec.inputs:
        leading = ("T", "B") if tensor.per_step else ("B",)
        inputs.append(graph.input(tensor.name, tensor.dtype, (*leading, *tensor.shape)))
    if roles.lengths is not None:
        lengths = graph.input(_LENGTHS, "int32", ("B",))
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(roles.lengths.dtype))
        graph.add("Cast", [lengths], _PREFIX + roles.lengths.name, to=kind)
    for pair, members in zip(spec.state, _state_by_type(axes).values(), strict=True):
        states += _split(graph, graph.input(pair.input, pair.dtype, ("B", *pair.shape)), pair, members)

    outputs, after = _Wrapper(model, roles, axes, spec).add(graph, inputs, states)

    for tensor, name in zip(spec.outputs, outputs, strict=True):
        leading = ("T", "B") if tensor.per_step else ("B",)
        graph.add("Identity", [name], tensor.name)
        graph.output(tensor.name, tensor.dtype, (*leading, *tensor.shape))
    by_name = dict(zip((state.name for state in axes.state), after, strict=True))
    for pair, members in zip(spec.state, _state_by_type(axes).values(), strict=True):
        graph.add("Concat", [by_name[state.name] for state in members], pair.output, axis=1)
        graph.output(pair.output, pair.dtype, ("B", *pair.shape))
    return graph.model("statewise.foreign", doc=model.doc_string, metadata=metadata, adopted=model)


def _split(graph: GraphBuilder, state: str, pair: StatePair, members: Sequence[TensorAxes]) -> list[str]:
    """The parts of a state, [B, size] each."""
    names = [f"{member.name}.part" for member in members]
    if len(names) == 1:
        return [graph.add("Identity", [state], names[0])]
    sizes = graph.constant(f"{pair.input}_sizes", [part.size for part in pair.parts])
    return graph.add_many("Split", [state, sizes], names, name=f"{pair.input}_parts", axis=1)


class _Wrapper:
    """Adds the foreign graph and its layers, outermost first: Scan over rows, Scan over time, exchanged axes.

    Every layer takes and gives names of tensors: inputs and states, then outputs and states.
    """

    def __init__(self, model: onnx.ModelProto, roles: TensorRoles, axes: GraphAxes, spec: ModelSpec) -> None:
        self._graph = onnx.GraphProto()
        self._graph.CopyFrom(model.graph)
        _add_prefix(self._graph)
        self._axes = axes
        self._spec = spec
        # In the order of the state tensors, which hold one type each.
        self._state = [state for members in _state_by_type(axes).values() for state in members]
        self._after = {match.input.name: match.output.name for match in roles.state}

    def add(self, graph: GraphBuilder, inputs: list[str], states: list[str]) -> tuple[list[str], list[str]]:
        """Adds all layers; takes inputs [T, B, ...] and states [B, size], gives outputs and states alike."""
        if not self._axes.one_row:
            return self._add_time_scan(graph, inputs, states)
        body = GraphBuilder(graph)
        row_inputs = [
            body.input(
                f"{tensor.name}.row", tensor.dtype, (*(("T",) if tensor.per_step else ()), *tensor.shape)
            )
            for tensor in self._spec.inputs
        ]
        row_states = [
            body.input(f"{state.name}.row_before", state.tensor.dtype, (_size(state),))
            for state in self._state
        ]
        outputs, after = self._add_time_scan(body, row_inputs, row_states)
        for tensor, name in zip(self._spec.outputs, outputs, strict=True):
            body.output(name, tensor.dtype, (*(("T",) if tensor.per_step else ()), *tensor.shape))
        for state, name in zip(self._state, after, strict=True):
            body.output(name, state.tensor.dtype, (_size(state),))
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

    def _add_time_scan(
        self, graph: GraphBuilder, inputs: list[str], states: list[str]
    ) -> tuple[list[str], list[str]]:
        if not self._axes.one_step:
            return self._add_foreign_nodes(graph, inputs, states)
        rows: tuple[str, ...] = () if self._axes.one_row else ("B",)
        body = GraphBuilder(graph)
        before = [
            body.input(f"{state.name}.before", state.tensor.dtype, (*rows, _size(state)))
            for state in self._state
        ]
        slices = [
            body.input(f"{tensor.name}.step", tensor.dtype, (*rows, *tensor.shape))
            for tensor in self._spec.inputs
        ]
        outputs, after = self._add_foreign_nodes(body, slices, before)
        for state, name in zip(self._state, after, strict=True):
            body.output(name, state.tensor.dtype, (*rows, _size(state)))
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

    def _add_foreign_nodes(
        self, graph: GraphBuilder, inputs: list[str], states: list[str]
    ) -> tuple[list[str], list[str]]:
        for source, name in zip(self._axes.inputs, inputs, strict=True):
            _to_foreign_axes(graph, source, name, _PREFIX + source.name)
        for state, name in zip(self._state, states, strict=True):
            head = [] if self._axes.one_row else [0]
            shape = graph.constant(f"{state.name}.shape", [*head, *state.shape])
            shaped = graph.add("Reshape", [name, shape], f"{state.name}.shaped")
            _to_foreign_axes(graph, state, shaped, _PREFIX + state.name)
        graph.adopt(self._graph)
        outputs = [_to_package_axes(graph, output, _PREFIX + output.name) for output in self._axes.outputs]
        after = []
        for state in self._state:
            found = _to_package_axes(graph, state, _PREFIX + self._after[state.name])
            flat = [_size(state)] if self._axes.one_row else [0, _size(state)]
            shape = graph.constant(f"{state.name}.flat_shape", flat)
            after.append(graph.add("Reshape", [found, shape], f"{state.name}.after"))
        return outputs, after


def _to_foreign_axes(graph: GraphBuilder, axes: TensorAxes, name: str, target: str) -> None:
    """Turns the order of axes of packages into the foreign order."""
    kept = sorted(axes.order)
    perm = [axes.order.index(axis) for axis in kept]
    if perm != sorted(perm):
        name = graph.add("Transpose", [name], f"{target}.foreign_order", perm=perm)
    if axes.dropped:
        dropped = graph.constant(f"{target}.dropped", list(axes.dropped))
        graph.add("Unsqueeze", [name, dropped], target)
    else:
        graph.add("Identity", [name], target)


def _to_package_axes(graph: GraphBuilder, axes: TensorAxes, name: str) -> str:
    """Turns the foreign order of axes into that of packages."""
    if axes.dropped:
        dropped = graph.constant(f"{name}.dropped", list(axes.dropped))
        name = graph.add("Squeeze", [name, dropped], f"{name}.kept")
    kept = sorted(axes.order)
    perm = [kept.index(axis) for axis in axes.order]
    return graph.add("Transpose", [name], f"{name}.ours", perm=perm) if perm != sorted(perm) else name


def _add_prefix(graph: onnx.GraphProto) -> None:
    """Prefixes every foreign name, in bodies too, so that none equals a name of the wrapper."""
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
