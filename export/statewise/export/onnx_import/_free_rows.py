"""Frees the batch of a graph whose batch is fixed at 1, so that the rows of a batch run together.

Sizes of 1 in inputs, in states and in the constants that give shapes become the number of rows. Which of them
are the batch follows from the shapes of all tensors, inferred with a number of rows and steps that occurs
nowhere else. Proves nothing: the caller compares the result with the file, and drops it where they differ.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod

import numpy as np
import onnx
from onnx import helper, numpy_helper

from statewise.export.onnx_import.discovery import STATE_INPUTS, GraphTensor, TensorRoles

_ROWS, _STEPS = 7919, 7907  # primes, so that a product shows what it consists of
_MOST_CHOICES = 4
_MOST_EDITS = 200
_MOST_ELEMENTS = 64  # of a constant that may be a shape
_SYMBOL = "rows"

Shapes = dict[str, tuple[int, ...]]


def free_rows(model: onnx.ModelProto, roles: TensorRoles) -> Iterator[onnx.ModelProto]:
    """Yields graphs with a free batch, likeliest first; none where a batch is free already.

    The inputs and states that have roles have an axis of size "rows"; the graph's outputs have no sizes.
    """
    states = [match.input for match in roles.state]
    tensors = [*states, *roles.inputs]
    if not states or roles.lengths is not None or any(state.free_axes for state in states):
        return
    ones = [[axis for axis, size in enumerate(tensor.sizes[:-1]) if size == 1] for tensor in tensors]
    # States with layers in front have their batch next; inputs mostly have it first.
    orders = [axes[::-1] for axes in ones[: len(states)]] + ones[len(states) :]
    for axes in itertools.islice(itertools.product(*orders), _MOST_CHOICES):
        chosen = {tensor.name: axis for tensor, axis in zip(tensors, axes, strict=True)}
        yield _RowsGraph(model, chosen, roles).freed()


def with_sizes_of(model: onnx.ModelProto, roles: TensorRoles) -> TensorRoles:
    """Returns the roles with the sizes that a freed graph has."""
    sizes = {
        entry.name: tuple(size.dim_param or size.dim_value for size in entry.type.tensor_type.shape.dim)
        for entry in model.graph.input
    }

    def resized(tensor: GraphTensor) -> GraphTensor:
        new = {axis: size for axis, size in enumerate(sizes[tensor.name]) if size == _SYMBOL}
        return replace(tensor, sizes=tuple(new.get(axis, size) for axis, size in enumerate(tensor.sizes)))

    return replace(
        roles,
        inputs=tuple(map(resized, roles.inputs)),
        state=tuple(replace(match, input=resized(match.input)) for match in roles.state),
    )


class _RowsGraph:
    """One choice of batch axes: a copy of the graph without large constants, which edits change."""

    def __init__(self, model: onnx.ModelProto, batch: dict[str, int], roles: TensorRoles) -> None:
        self._whole = model
        self._batch = batch
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        graph = self._model.graph
        for constant in graph.initializer:
            if prod(constant.dims) > _MOST_ELEMENTS:
                light = onnx.TensorProto(name=constant.name, data_type=constant.data_type, dims=constant.dims)
                constant.CopyFrom(light)
        del graph.value_info[:]
        for entry in graph.input:
            for axis, size in enumerate(entry.type.tensor_type.shape.dim):
                if batch.get(entry.name) == axis:
                    size.dim_value = _ROWS
                elif not size.HasField("dim_value"):
                    size.dim_value = _STEPS
        for entry in graph.output:
            entry.type.tensor_type.ClearField("shape")
        self._taken = {name for node in graph.node for name in (*node.input, *node.output)}
        self._added: list[onnx.TensorProto] = []
        self._edited: set[str] = set()
        source = next(tensor.name for tensor in roles.inputs)
        self._rows = self._name("rows")
        start = batch[source]
        count = helper.make_node("Shape", [source], [self._rows], start=start, end=start + 1)
        graph.node.insert(0, count)

    def freed(self) -> onnx.ModelProto:
        """Edits shapes until nothing is left to edit; returns the whole graph with these nodes."""
        for _ in range(_MOST_EDITS):
            inferred = onnx.shape_inference.infer_shapes(self._model, data_prop=True).graph
            if not self._edit_first(_shapes(inferred)):
                break
        result = onnx.ModelProto()
        result.CopyFrom(self._whole)
        graph = result.graph
        del graph.node[:]
        graph.node.extend(self._model.graph.node)
        graph.initializer.extend(self._added)
        del graph.value_info[:]
        for entry in graph.input:
            if entry.name in self._batch:
                entry.type.tensor_type.shape.dim[self._batch[entry.name]].dim_param = _SYMBOL
        for entry in graph.output:
            for size in entry.type.tensor_type.shape.dim:
                size.Clear()
        return result

    def _edit_first(self, shapes: Shapes) -> bool:
        """Edits the first node whose shape has to follow the number of rows; returns whether there is one."""
        for position, node in enumerate(self._model.graph.node):
            title = node.output[0]
            if title in self._edited:
                continue
            if node.op_type == "Reshape" and self._edit_reshape(position, node, shapes):
                self._edited.add(title)
                return True
            if node.op_type in (*STATE_INPUTS, "Concat") and self._edit_constants(position, node, shapes):
                self._edited.add(title)
                return True
        return False

    def _edit_reshape(self, position: int, node: onnx.NodeProto, shapes: Shapes) -> bool:
        before, target = shapes.get(node.input[0]), self._constant(node.input[1])
        if before is None or target is None or before.count(_ROWS) != 1:
            return False
        axis = before.index(_ROWS)
        sizes = [
            before[index] if size == 0 and index < len(before) else size for index, size in enumerate(target)
        ]
        if -1 in sizes:
            known = prod(size for size in sizes if size != -1)
            sizes = [prod(before) // _ROWS // known if size == -1 and known else size for size in sizes]
        # In C order the rows stay an axis of their own where as many elements lie outside of it as before.
        fitting = [
            index
            for index, size in enumerate(target)
            if size == 1 and prod(sizes[:index]) == prod(before[:axis])
        ]
        if not fitting:
            return False
        chosen = axis if axis in fitting else fitting[0]
        shape = self._shape(position, [*target[:chosen], None, *target[chosen + 1 :]])
        node.input[1] = shape
        return True

    def _edit_constants(self, position: int, node: onnx.NodeProto, shapes: Shapes) -> bool:
        """Expands what has one row beside tensors that have all: initial states, and parts of a Concat."""
        if node.op_type == "Concat":
            axes = {shapes[name].index(_ROWS) for name in node.input if _ROWS in shapes.get(name, ())}
            axes -= {entry.i for entry in node.attribute if entry.name == "axis"}
            indices = [*range(len(node.input))]
        else:
            axes = {1} if shapes.get(node.input[0], ())[1:2] == (_ROWS,) else set()
            indices = [index for index in STATE_INPUTS[node.op_type] if index < len(node.input)]
        changed = False
        for index in indices if len(axes) == 1 else ():
            shape, (axis,) = shapes.get(node.input[index], ()), axes
            if len(shape) > axis and shape[axis] == 1:
                expanded = self._name(f"{node.input[index]}.rows")
                sizes = self._shape(position, [None if i == axis else 1 for i in range(len(shape))])
                expand = helper.make_node("Expand", [node.input[index], sizes], [expanded])
                node.input[index] = expanded
                self._model.graph.node.insert(position + 1, expand)  # behind its shape
                changed = True
        return changed

    def _shape(self, position: int, sizes: Sequence[int | None]) -> str:
        """Adds a node that gives a shape with the number of rows in place of None, before a position."""
        parts = []
        for size in sizes:
            if size is None:
                parts.append(self._rows)
                continue
            part = numpy_helper.from_array(np.array([size], np.int64), self._name("size"))
            self._model.graph.initializer.append(part)
            self._added.append(part)
            parts.append(part.name)
        name = self._name("shape")
        self._model.graph.node.insert(position, helper.make_node("Concat", parts, [name], axis=0))
        return name

    def _constant(self, name: str) -> list[int] | None:
        for tensor in self._model.graph.initializer:
            if tensor.name == name:
                return [int(size) for size in numpy_helper.to_array(tensor).ravel()]
        for node in self._model.graph.node:
            if node.op_type == "Constant" and node.output[0] == name:
                value = helper.get_attribute_value(node.attribute[0])
                array = (
                    numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.array(value)
                )
                return [int(size) for size in array.ravel()]
        return None

    def _name(self, word: str) -> str:
        name, number = f"rows/{word}", 0
        while name in self._taken:
            number += 1
            name = f"rows/{word}.{number}"
        self._taken.add(name)
        return name


def _shapes(graph: onnx.GraphProto) -> Shapes:
    """Returns the shapes that are known whole."""
    found = {}
    for entry in (*graph.input, *graph.value_info, *graph.output):
        if entry.type.tensor_type.HasField("shape"):
            sizes = entry.type.tensor_type.shape.dim
            if all(size.HasField("dim_value") for size in sizes):
                found[entry.name] = tuple(size.dim_value for size in sizes)
    for constant in graph.initializer:
        found[constant.name] = tuple(constant.dims)
    return found
