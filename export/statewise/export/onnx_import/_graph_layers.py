"""Adds a foreign graph and the layers around it, outermost first: Scan over rows, Scan over time, exchanged
axes.

Every layer takes and gives names of tensors: inputs and states, then outputs and states. No name of a layer
equals a name of the package's inputs and outputs or of the foreign graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import onnx

from statewise.export.graphs import GraphBuilder
from statewise.export.onnx_import.discovery import GraphAxes, TensorAxes, TensorRoles
from statewise.wire import ModelSpec


@dataclass(frozen=True)
class LayerNames:
    """Names in a wrapped graph.

    Attributes:
        foreign_prefix: Prefix of every name of the foreign graph.
        own_prefix: Prefix of every tensor of the layers.
        lengths: The package's input of lengths.
        states: The package's state input and output, by type.
        outputs: The package's outputs, by their foreign names.
    """

    foreign_prefix: str
    own_prefix: str
    lengths: str
    states: dict[str, tuple[str, str]]
    outputs: dict[str, str]

    @classmethod
    def choose(cls, inputs: Sequence[str], outputs: Sequence[str], state_types: Sequence[str]) -> Self:
        """Names that are not taken; the foreign inputs and outputs keep theirs."""
        taken = set(inputs)

        def free(name: str) -> str:
            while name in taken:
                name += "_"
            taken.add(name)
            return name

        published = {name: free(name) for name in outputs}
        states = {}
        for index, dtype in enumerate(state_types):
            suffix = f"_{dtype}" if index else ""
            states[dtype] = (free(f"state{suffix}"), free(f"state{suffix}_out"))
        lengths = free("lengths")
        prefixes = []
        for prefix in ("foreign/", "layers/"):
            while any(name.startswith(prefix) for name in taken):
                prefix = f"_{prefix}"
            prefixes.append(prefix)
        return cls(prefixes[0], prefixes[1], lengths, states, published)

    def own(self, name: str) -> str:
        """Returns the name of a tensor of the layers."""
        return f"{self.own_prefix}{name}"

    def foreign(self, name: str) -> str:
        """Returns the name of a tensor of the foreign graph."""
        return f"{self.foreign_prefix}{name}"


def flat_size(state: TensorAxes) -> int:
    """Returns the number of elements of one row's state."""
    return int(np.prod(state.shape))


class GraphLayers:
    """The foreign graph and its layers.

    Args:
        foreign: The foreign graph; it is copied.
        roles: Roles of its inputs and outputs.
        axes: Axes of its inputs and outputs.
        spec: Spec of the wrapped graph.
        names: Names in the wrapped graph.
    """

    def __init__(
        self,
        foreign: onnx.GraphProto,
        roles: TensorRoles,
        axes: GraphAxes,
        spec: ModelSpec,
        names: LayerNames,
    ) -> None:
        self._graph = onnx.GraphProto()
        self._graph.CopyFrom(foreign)
        _add_prefix(self._graph, names.foreign_prefix)
        self._axes = axes
        self._spec = spec
        self._names = names
        self._lengths = roles.lengths
        self._after = {match.input.name: match.output.name for match in roles.state}
        self.states = axes.state

    def add(
        self, graph: GraphBuilder, inputs: list[str], lengths: str | None, states: dict[str, str]
    ) -> tuple[list[str], list[str]]:
        """Adds all layers.

        Args:
            graph: The graph to add them to.
            inputs: [T, B, ...] or [B, ...].
            lengths: [B], or None.
            states: [B, size], by the names of the foreign state inputs.

        Returns:
            Outputs [T, B, ...] or [B, ...], and states [B, size] in the order of `states`.
        """
        before = [states[state.name] for state in self.states]
        if not self._axes.one_row:
            self._add_lengths(graph, lengths)
            return self._add_time_scan(graph, inputs, before)
        own = self._names.own
        body = GraphBuilder(graph)
        row_inputs = [
            body.input(
                own(f"{tensor.name}.row"), tensor.dtype, (*(("T",) if tensor.per_step else ()), *tensor.shape)
            )
            for tensor in self._spec.inputs
        ]
        row_lengths = [] if lengths is None else [body.input(own("lengths.row"), "int32", ())]
        row_states = [
            body.input(own(f"{state.name}.row_before"), state.tensor.dtype, (flat_size(state),))
            for state in self.states
        ]
        self._add_lengths(body, row_lengths[0] if row_lengths else None)
        outputs, after = self._add_time_scan(body, row_inputs, row_states)
        for tensor, name in zip(self._spec.outputs, outputs, strict=True):
            body.output(name, tensor.dtype, (*(("T",) if tensor.per_step else ()), *tensor.shape))
        for state, name in zip(self.states, after, strict=True):
            body.output(name, state.tensor.dtype, (flat_size(state),))
        gathered = [own(f"{name}.rows") for name in (*outputs, *after)]
        scanned = [*inputs, *([] if lengths is None else [lengths]), *before]
        graph.add_many(
            "Scan",
            scanned,
            gathered,
            name=own("row_by_row"),
            body=body.body("row"),
            num_scan_inputs=len(scanned),
            scan_input_axes=[
                *(int(tensor.per_step) for tensor in self._spec.inputs),
                *(0 for _ in (*row_lengths, *before)),
            ],
            scan_output_axes=[int(tensor.per_step) for tensor in self._spec.outputs] + [0] * len(after),
        )
        return gathered[: len(outputs)], gathered[len(outputs) :]

    def _add_lengths(self, graph: GraphBuilder, name: str | None) -> None:
        """Gives the foreign graph its lengths, of its type, [B]."""
        if self._lengths is None or name is None:
            return
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self._lengths.dtype))
        foreign = self._names.foreign(self._lengths.name)
        if self._axes.one_row:
            one = graph.constant(self._names.own("lengths.shape"), [1])
            name = graph.add("Reshape", [name, one], self._names.own("lengths.shaped"))
        graph.add("Cast", [name], foreign, to=kind)

    def _add_time_scan(
        self, graph: GraphBuilder, inputs: list[str], states: list[str]
    ) -> tuple[list[str], list[str]]:
        if not self._axes.one_step:
            return self._add_foreign_nodes(graph, inputs, states)
        own = self._names.own
        rows: tuple[str, ...] = () if self._axes.one_row else ("B",)
        body = GraphBuilder(graph)
        before = [
            body.input(own(f"{state.name}.before"), state.tensor.dtype, (*rows, flat_size(state)))
            for state in self.states
        ]
        slices = [
            body.input(own(f"{tensor.name}.step"), tensor.dtype, (*rows, *tensor.shape))
            for tensor in self._spec.inputs
        ]
        outputs, after = self._add_foreign_nodes(body, slices, before)
        for state, name in zip(self.states, after, strict=True):
            body.output(name, state.tensor.dtype, (*rows, flat_size(state)))
        for tensor, name in zip(self._spec.outputs, outputs, strict=True):
            body.output(name, tensor.dtype, (*rows, *tensor.shape))
        gathered = [own(f"{name}.steps") for name in (*after, *outputs)]
        graph.add_many(
            "Scan",
            [*states, *inputs],
            gathered,
            name=own("step_by_step"),
            body=body.body("step"),
            num_scan_inputs=len(inputs),
        )
        return gathered[len(after) :], gathered[: len(after)]

    def _add_foreign_nodes(
        self, graph: GraphBuilder, inputs: list[str], states: list[str]
    ) -> tuple[list[str], list[str]]:
        own, foreign = self._names.own, self._names.foreign
        for source, name in zip(self._axes.inputs, inputs, strict=True):
            self._to_foreign_axes(graph, source, name)
        head = [] if self._axes.one_row else [0]
        for state, name in zip(self.states, states, strict=True):
            shape = graph.constant(own(f"{state.name}.shape"), [*head, *state.shape])
            shaped = graph.add("Reshape", [name, shape], own(f"{state.name}.shaped"))
            self._to_foreign_axes(graph, state, shaped)
        graph.adopt(self._graph)
        outputs = [
            self._to_package_axes(graph, output, foreign(output.name), f"{output.name}.output")
            for output in self._axes.outputs
        ]
        after = []
        for state in self.states:
            successor = foreign(self._after[state.name])
            found = self._to_package_axes(graph, state, successor, f"{state.name}.state")
            shape = graph.constant(own(f"{state.name}.flat_shape"), [*head, flat_size(state)])
            after.append(graph.add("Reshape", [found, shape], own(f"{state.name}.after")))
        return outputs, after

    def _to_foreign_axes(self, graph: GraphBuilder, axes: TensorAxes, name: str) -> None:
        """Turns the order of axes of packages into the foreign order."""
        target = self._names.foreign(axes.name)
        kept = sorted(axes.order)
        perm = [axes.order.index(axis) for axis in kept]
        if perm != sorted(perm):
            name = graph.add("Transpose", [name], self._names.own(f"{axes.name}.foreign_order"), perm=perm)
        if axes.dropped:
            dropped = graph.constant(self._names.own(f"{axes.name}.added"), list(axes.dropped))
            graph.add("Unsqueeze", [name, dropped], target)
        else:
            graph.add("Identity", [name], target)

    def _to_package_axes(self, graph: GraphBuilder, axes: TensorAxes, name: str, title: str) -> str:
        """Turns the foreign order of axes into that of packages."""
        own = self._names.own
        if axes.dropped:
            dropped = graph.constant(own(f"{title}.dropped"), list(axes.dropped))
            name = graph.add("Squeeze", [name, dropped], own(f"{title}.kept"))
        kept = sorted(axes.order)
        perm = [kept.index(axis) for axis in axes.order]
        if perm != sorted(perm):
            name = graph.add("Transpose", [name], own(f"{title}.package_order"), perm=perm)
        # The name is used once, also where two outputs are one tensor of the foreign graph.
        return graph.add("Identity", [name], own(title))


def _add_prefix(graph: onnx.GraphProto, prefix: str) -> None:
    """Prefixes every foreign name, in bodies too, so that none equals a name of the layers."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = prefix + value.name
    for constant in graph.initializer:
        constant.name = prefix + constant.name
    for node in graph.node:
        node.name = prefix + node.name if node.name else ""
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = prefix + name if name else ""
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _add_prefix(attribute.g, prefix)
            for body in attribute.graphs:
                _add_prefix(body, prefix)
