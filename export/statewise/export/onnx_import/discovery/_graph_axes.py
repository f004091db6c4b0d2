"""Finds the axes of a foreign graph's outputs by running the graph with sizes that occur nowhere in the file.

An output's axis that changes with the number of rows, and with nothing else, is its batch axis; likewise for
time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from statewise.export.base import Array
from statewise.export.onnx_import.discovery._axis_options import AxisChoice
from statewise.export.onnx_import.discovery._graph_tensor import GraphAxes, GraphTensor, TensorAxes
from statewise.export.onnx_import.discovery._original_graph import OriginalGraph, first_line
from statewise.export.onnx_import.discovery._tensor_roles import TensorRoles

_PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)
_MOST_SIZES = 64  # elements of a constant that may be a shape


class AxesError(Exception):
    """A choice of axes that the graph does not have; the text says what is wrong with it."""


class TrialSizes:
    """Numbers of rows and steps that occur nowhere in a file.

    Attributes:
        rows: Two numbers of rows.
        steps: Two numbers of steps.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        used = set(_sizes(graph))
        unused = [size for size in _PRIMES if size not in used] + [
            size for size in range(101, 1000, 2) if size not in used
        ]
        self.rows = (unused[0], unused[1])
        self.steps = (unused[2], unused[3])


def _sizes(graph: onnx.GraphProto) -> Iterator[int]:
    """Yields every size in a graph: of tensors, of constants, and numbers in small constants."""
    for value in (*graph.input, *graph.value_info, *graph.output):
        yield from (size.dim_value for size in value.type.tensor_type.shape.dim)
    constants = [*graph.initializer, *(entry.t for node in graph.node for entry in node.attribute)]
    for constant in constants:
        yield from constant.dims
        if constant.data_type == onnx.TensorProto.INT64 and np.prod(constant.dims) <= _MOST_SIZES:
            yield from numpy_helper.to_array(constant).ravel().tolist()
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.ints
            for body in (attribute.g, *attribute.graphs):
                yield from _sizes(body)


def complete_axes(
    graph: OriginalGraph, roles: TensorRoles, choice: AxisChoice, sizes: TrialSizes
) -> GraphAxes:
    """Returns the axes of all tensors, where those of inputs and states are chosen.

    Raises:
        AxesError: the graph does not run so, its states change their shapes, or an output's axes do not
        follow
            rows and steps.
    """
    one_step = all(axes.time is None for axes in choice.inputs)
    rows = (1, 1) if choice.one_row else sizes.rows
    steps = (1, 1) if one_step else sizes.steps
    runs = [
        _shapes(graph, roles, choice, *run)
        for run in ((rows[0], steps[0]), (rows[1], steps[0]), (rows[0], steps[1]))
    ]
    outputs = tuple(
        _output_axes(
            tensor,
            [shapes[index] for shapes in runs],
            rows=None if choice.one_row else rows,
            steps=None if one_step else steps,
        )
        for index, tensor in enumerate(roles.outputs)
    )
    axes = GraphAxes(choice.inputs, outputs, choice.state, choice.one_row, one_step)
    return (
        axes if one_step else replace(axes, least_steps=_least_steps(graph, roles, choice, rows[0], steps[0]))
    )


def _least_steps(graph: OriginalGraph, roles: TensorRoles, choice: AxisChoice, rows: int, most: int) -> int:
    """Returns the smallest number of steps with which the graph runs; it runs with `most`."""
    least = 1
    while least < most:
        steps = least if least == 1 else (least + most) // 2
        try:
            _shapes(graph, roles, choice, rows, steps)
            most = steps
        except AxesError:
            least = steps + 1
    return most


def _shapes(
    graph: OriginalGraph, roles: TensorRoles, choice: AxisChoice, rows: int, steps: int
) -> list[tuple[int, ...]]:
    """Returns the shapes of the outputs in a run on small numbers."""
    feed = {
        axes.name: _numbers(axes, rows, steps, roles.vocabulary_sizes)
        for axes in (*choice.inputs, *choice.state)
    }
    if roles.lengths is not None:
        feed[roles.lengths.name] = np.full(rows, steps, roles.lengths.dtype)
    names = [tensor.name for tensor in roles.outputs] + [match.output.name for match in roles.state]
    try:
        shapes = [array.shape for array in graph.run(feed, names)]
    except Exception as error:
        raise AxesError(f"onnxruntime cannot run the graph: {first_line(error)}") from None
    for axes, shape in zip(choice.state, shapes[len(roles.outputs) :], strict=True):
        if shape != feed[axes.name].shape:
            raise AxesError(
                f"state {axes.name!r}: expected the same shape after a run, {list(feed[axes.name].shape)}; "
                f"got {list(shape)}; a cache that grows cannot be a state"
            )
    return shapes


def _output_axes(
    tensor: GraphTensor,
    shapes: list[tuple[int, ...]],
    *,
    rows: tuple[int, int] | None,
    steps: tuple[int, int] | None,
) -> TensorAxes:
    """Returns an output's axes, from its shapes in runs of other rows and of other steps."""
    if len({len(shape) for shape in shapes}) > 1:
        raise AxesError(f"output {tensor.name!r}: expected one number of axes; got shapes {shapes}")
    batches, times = [], []
    for axis, found in enumerate(zip(*shapes, strict=True)):
        if rows is not None and found == (rows[0], rows[1], rows[0]):
            batches.append(axis)
        elif steps is not None and found == (steps[0], steps[0], steps[1]):
            times.append(axis)
        elif len(set(found)) > 1:
            wanted = f"{steps[0]} and {steps[1]} steps" if steps else f"{rows} rows"
            raise AxesError(
                f"output {tensor.name!r}: expected a value for every step, or one for all; axis {axis} "
                f"has sizes {found[0]} and {found[2]} for {wanted}; leave the output out (--output with the "
                "names of the others)"
            )
    title = f"output {tensor.name!r} {list(tensor.sizes)}"
    if len(batches) > 1 or len(times) > 1:
        raise AxesError(f"{title}: expected one batch and one time axis; leave it out (--output OTHERS)")
    if rows is not None and not batches:
        raise AxesError(
            f"{title}: expected a batch axis, a value for every row; leave it out (--output OTHERS)"
        )
    actual = replace(tensor, sizes=shapes[0])
    batch, time = (found[0] if found else None for found in (batches, times))
    kept = 1 + (batch is not None) + (time is not None)
    ones = [axis for axis, size in enumerate(shapes[0][:-1]) if size == 1]
    whole = batch is not None and time is not None
    dropped = () if whole else tuple(ones[: max(len(shapes[0]) - kept, 0)])
    return TensorAxes(actual, time, batch, dropped)


def _numbers(axes: TensorAxes, rows: int, steps: int, vocabulary_sizes: Mapping[str, int]) -> Array:
    sizes = [
        rows if axis == axes.batch else steps if axis == axes.time else int(size)
        for axis, size in enumerate(axes.tensor.sizes)
    ]
    rng = np.random.default_rng(0)
    if np.dtype(axes.tensor.dtype).kind == "f":
        return rng.standard_normal(sizes).astype(axes.tensor.dtype)
    return rng.integers(0, vocabulary_sizes.get(axes.name, 2), sizes).astype(axes.tensor.dtype)
