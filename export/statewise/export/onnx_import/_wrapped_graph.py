"""Wraps a foreign graph into a graph of the form of packages: time-major, one state [B, S] for each type.

The foreign nodes stay as they are; layers before and after them (`_graph_layers`) exchange axes. A graph of
one step runs in a Scan over time. A graph of one row runs in a Scan over rows, so a row's result is the same
in any batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from statewise.export.base import Array
from statewise.export.graphs import GraphBuilder
from statewise.export.onnx_import._graph_layers import GraphLayers, LayerNames, flat_size
from statewise.export.onnx_import.discovery import GraphAxes, TensorAxes, TensorRoles
from statewise.wire import METADATA_KEY, CallShape, ModelSpec, StatePair, StatePart, TensorSpec


@dataclass(frozen=True)
class GraphWrapper:
    """A foreign model, and how its package looks.

    Attributes:
        model: The foreign model.
        roles: Roles of its inputs and outputs.
        axes: Axes of its inputs and outputs.
        initial: Initial states by the names of state inputs, [*shape] each.
    """

    model: onnx.ModelProto
    roles: TensorRoles
    axes: GraphAxes
    initial: Mapping[str, Array]

    def spec(self, notes: dict[str, str]) -> ModelSpec:
        """Returns inputs, outputs and states of the wrapped graph."""
        names = self._names()
        inputs = tuple(self._tensor_spec(entry, entry.name) for entry in self.axes.inputs)
        outputs = tuple(self._tensor_spec(entry, names.outputs[entry.name]) for entry in self.axes.outputs)
        shape = CallShape.MANY_TO_MANY if any(entry.per_step for entry in outputs) else CallShape.MANY_TO_ONE
        return ModelSpec(
            inputs=inputs,
            outputs=outputs,
            state=() if self.roles.predict_only else tuple(self._state_pairs(names)),
            call_shapes=(shape,),
            lengths=None if self.roles.lengths is None else names.lengths,
            least_steps=self.axes.least_steps,
            notes=notes,
        )

    def _tensor_spec(self, entry: TensorAxes, name: str) -> TensorSpec:
        per_step = entry.time is not None or self.axes.one_step
        tokens = self.roles.vocabulary_sizes.get(entry.name)
        return TensorSpec(name, entry.tensor.dtype, entry.shape, per_step, vocabulary_size=tokens)

    def _state_by_type(self) -> dict[str, list[TensorAxes]]:
        groups: dict[str, list[TensorAxes]] = {}
        for state in self.axes.state:
            groups.setdefault(state.tensor.dtype, []).append(state)
        return groups

    def _state_pairs(self, names: LayerNames) -> list[StatePair]:
        pairs = []
        for dtype, members in self._state_by_type().items():
            parts, offset = [], 0
            for state in members:
                parts.append(StatePart(state.name, offset, flat_size(state)))
                offset += flat_size(state)
            values = np.concatenate([self.initial[state.name].ravel() for state in members]).tolist()
            initial = float(values[0]) if len(set(values)) == 1 else tuple(map(float, values))
            before, after = names.states[dtype]
            pairs.append(StatePair(before, after, dtype, (offset,), initial=initial, parts=tuple(parts)))
        return pairs

    def _names(self) -> LayerNames:
        return LayerNames.choose(
            [entry.name for entry in self.axes.inputs],
            [entry.name for entry in self.axes.outputs],
            list(self._state_by_type()),
        )

    def wrap(self, spec: ModelSpec) -> onnx.ModelProto:
        """Makes the model with the spec's inputs and outputs, and with the spec in its metadata."""
        graph, names = GraphBuilder(), self._names()
        layers = GraphLayers(self.model.graph, self.roles, self.axes, spec, names)
        inputs = []
        for tensor in spec.inputs:
            leading = ("T", "B") if tensor.per_step else ("B",)
            inputs.append(graph.input(tensor.name, tensor.dtype, (*leading, *tensor.shape)))
        lengths = None if spec.lengths is None else graph.input(spec.lengths, "int32", ("B",))
        if self.roles.predict_only:
            states = self._constant_states(graph, names, spec)
        else:
            states = self._split_states(graph, names, spec)

        outputs, after = layers.add(graph, inputs, lengths, states)

        for tensor, name in zip(spec.outputs, outputs, strict=True):
            leading = ("T", "B") if tensor.per_step else ("B",)
            graph.add("Identity", [name], tensor.name)
            graph.output(tensor.name, tensor.dtype, (*leading, *tensor.shape))
        by_name = dict(zip((state.name for state in layers.states), after, strict=True))
        for pair in spec.state:
            parts = [by_name[part.name] for part in pair.parts]
            graph.add("Concat", parts, pair.output, axis=1)
            graph.output(pair.output, pair.dtype, ("B", *pair.shape))
        return graph.model(
            "statewise.foreign",
            doc=self.model.doc_string,
            metadata={METADATA_KEY: spec.to_json()},
            adopted=self.model,
        )

    def _split_states(self, graph: GraphBuilder, names: LayerNames, spec: ModelSpec) -> dict[str, str]:
        """Returns the foreign states by name, [B, size] each: parts of the package's states."""
        states: dict[str, str] = {}
        for pair in spec.state:
            graph.input(pair.input, pair.dtype, ("B", *pair.shape))
            parts = [names.own(f"{part.name}.part") for part in pair.parts]
            if len(parts) == 1:
                graph.add("Identity", [pair.input], parts[0])
            else:
                sizes = graph.constant(names.own(f"{pair.input}.sizes"), [part.size for part in pair.parts])
                name = names.own(f"{pair.input}.parts")
                graph.add_many("Split", [pair.input, sizes], parts, name=name, axis=1)
            states |= dict(zip((part.name for part in pair.parts), parts, strict=True))
        return states

    def _constant_states(self, graph: GraphBuilder, names: LayerNames, spec: ModelSpec) -> dict[str, str]:
        """Returns the foreign states by name, [B, size] each: the initial states of every row."""
        if not self.axes.state:
            return {}
        axis = int(spec.inputs[0].per_step)
        rows = names.own("rows")
        graph.add("Shape", [spec.inputs[0].name], rows, start=axis, end=axis + 1)
        states = {}
        for state in self.axes.state:
            initial = self.initial[state.name].reshape(1, flat_size(state))
            constant = graph.constant(names.own(f"{state.name}.initial"), initial)
            size = graph.constant(names.own(f"{state.name}.size"), [flat_size(state)])
            shape = names.own(f"{state.name}.rows_and_size")
            graph.add("Concat", [rows, size], shape, axis=0)
            states[state.name] = graph.add("Expand", [constant, shape], names.own(f"{state.name}.part"))
        return states
