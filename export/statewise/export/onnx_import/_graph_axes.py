"""Finds the batch and time axes of a foreign graph's inputs and outputs by running the graph.

Exporters rarely agree on the names of free sizes, so the names only order the attempts. A run with sizes that
occur nowhere else decides: the axis of an output that has the batch's size is its batch axis.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from statewise.export.base import Array, SourceError, run_options
from statewise.export.onnx_import._graph_tensor import GraphTensor
from statewise.export.onnx_import._tensor_roles import TensorRoles

_ROWS = (3, 5, 7, 11, 13, 17)  # batch sizes to try; one that is no other axis's size
_STEPS = (2, 19, 23, 29, 31, 37)
_RUN_LIMIT_S = 20.0  # of a run of a few steps on zeros
_LOG_FATAL = 4


@dataclass(frozen=True)
class TensorAxes:
    """The axes of one input or output.

    Attributes:
        tensor: Its name, type and sizes.
        time: Axis of the time steps, or None.
        batch: Axis of the rows, or None.
        dropped: Axes of size 1 that stand for a batch of one or a single step; packages do not have them.
    """

    tensor: GraphTensor
    time: int | None = None
    batch: int | None = None
    dropped: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Of the tensor."""
        return self.tensor.name

    @property
    def order(self) -> tuple[int, ...]:
        """The kept axes in the order of packages: time, batch, the others."""
        first = [axis for axis in (self.time, self.batch) if axis is not None]
        kept = (axis for axis in range(len(self.tensor.sizes)) if axis not in (*first, *self.dropped))
        return (*first, *kept)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample, without batch and time."""
        sizes = [self.tensor.sizes[axis] for axis in self.order if axis not in (self.time, self.batch)]
        assert all(isinstance(size, int) for size in sizes), "free sizes are batch or time"
        return tuple(size for size in sizes if isinstance(size, int))


@dataclass(frozen=True)
class GraphAxes:
    """The axes of all inputs, outputs and states, and whether one run is limited to a row or a step.

    Attributes:
        inputs: In the order of the roles.
        outputs: In the order of the roles.
        state: Of the state inputs.
        one_row: The graph has no batch axis, or a fixed batch of 1: it runs one row at a time.
        one_step: The graph has no time axis: it runs one step at a time.
    """

    inputs: tuple[TensorAxes, ...]
    outputs: tuple[TensorAxes, ...]
    state: tuple[TensorAxes, ...]
    one_row: bool
    one_step: bool


def find_axes(path: Path, content: bytes, roles: TensorRoles) -> GraphAxes:
    """Finds the axes.

    Args:
        path: Named in errors.
        content: The serialised model.
        roles: Of its inputs and outputs.

    Raises:
        SourceError: a free size that is neither batch nor time, an input without a batch axis beside states
            that have one, or a graph that onnxruntime cannot run in any assignment of axes; naming inputs and
            sizes.
    """
    session = _load(path, content)
    one_row = not any(match.input.free_axes for match in roles.state)
    reasons: list[str] = []
    for inputs, state in _assignments(path, roles, one_row=one_row):
        used = {size for axes in (*inputs, *state) for size in axes.tensor.sizes}
        rows = next(size for size in _ROWS if size not in used)
        steps = next(size for size in _STEPS if size not in used)
        shapes = _run_on_zeros(session, roles, inputs, state, rows, steps, reasons)
        if shapes is not None:
            one_step = all(axes.time is None for axes in inputs)
            outputs = tuple(
                _output_axes(tensor, shape, rows=None if one_row else rows, steps=None if one_step else steps)
                for tensor, shape in zip(roles.outputs, shapes, strict=False)
            )
            return GraphAxes(inputs, outputs, state, one_row, one_step)
    raise SourceError(path, f"onnxruntime cannot run the graph on zeros: {reasons[0]}")


def _run_on_zeros(
    session: Any,
    roles: TensorRoles,
    inputs: tuple[TensorAxes, ...],
    state: tuple[TensorAxes, ...],
    rows: int,
    steps: int,
    reasons: list[str],
) -> list[tuple[int, ...]] | None:
    """The shapes of outputs and states; None, and one more reason, where these axes do not run."""
    feed = {axes.name: _zeros(axes, rows, steps) for axes in (*inputs, *state)}
    if roles.lengths is not None:
        size = rows if roles.lengths.free_axes else 1
        feed[roles.lengths.name] = np.full(size, steps, roles.lengths.dtype)
    names = [tensor.name for tensor in roles.outputs] + [match.output.name for match in roles.state]
    try:
        with run_options(_RUN_LIMIT_S) as options:
            shapes = [array.shape for array in session.run(names, feed, options)]
    except Exception as error:
        reasons.append(str(error).strip().splitlines()[0])
        return None
    after = shapes[len(roles.outputs) :]
    before = [feed[axes.name].shape for axes in state]
    if after != before:
        reasons.append(f"state of shapes {after} after {before}")
        return None
    return shapes


def _assignments(
    path: Path, roles: TensorRoles, *, one_row: bool
) -> Iterator[tuple[tuple[TensorAxes, ...], tuple[TensorAxes, ...]]]:
    """Possible axes of the inputs and of the state, likeliest first."""
    state = []
    for match in roles.state:
        free = match.input.free_axes
        if one_row == bool(free):
            raise SourceError(
                path, f"state {match.input.name!r}: expected a free batch size, as others have it"
            )
        state.append(TensorAxes(match.input, batch=free[0] if free else None))
    symbols = {str(axes.tensor.sizes[axes.batch]) for axes in state if axes.batch is not None}
    choices = [list(_input_axes(path, tensor, symbols, one_row=one_row)) for tensor in roles.inputs]
    for inputs in itertools.product(*choices):
        yield tuple(inputs), tuple(state)


def _input_axes(path: Path, tensor: GraphTensor, symbols: set[str], *, one_row: bool) -> Iterator[TensorAxes]:
    """Possible axes of an input; symbols are the names of the states' batch sizes."""
    free = tensor.free_axes
    title = f"input {tensor.name!r} {list(tensor.sizes)}"
    if len(free) > (1 if one_row else 2):
        raise SourceError(path, f"{title}: expected batch and time to be all that is free")
    if one_row:
        yield TensorAxes(tensor, time=free[0] if free else None, dropped=_ones(tensor, kept=1))
        return
    if not free:
        raise SourceError(
            path,
            f"{title}: expected a batch axis, as the state has one; an input that is the "
            "same for all rows can be made a constant (--constant NAME=VALUE)",
        )
    batches = [axis for axis in free if tensor.sizes[axis] in symbols]
    for batch in batches if len(batches) == 1 else free:
        time = next((axis for axis in free if axis != batch), None)
        dropped = () if time is not None else _ones(tensor, kept=2)[:1]
        yield TensorAxes(tensor, time=time, batch=batch, dropped=dropped)


def _output_axes(
    tensor: GraphTensor, shape: tuple[int, ...], *, rows: int | None, steps: int | None
) -> TensorAxes:
    batch = shape.index(rows) if rows in shape else None
    time = shape.index(steps) if steps in shape else None
    actual = GraphTensor(tensor.name, tensor.dtype, shape)
    kept = 1 + (batch is not None) + (time is not None)
    whole = batch is not None and time is not None
    dropped = () if whole or len(shape) <= kept else _ones(actual, kept=kept)
    return TensorAxes(actual, time, batch, dropped)


def _ones(tensor: GraphTensor, *, kept: int) -> tuple[int, ...]:
    """Axes of size 1 before the features, so many that at least `kept` axes are left."""
    ones = [axis for axis, size in enumerate(tensor.sizes[:-1]) if size == 1]
    return tuple(ones[: max(len(tensor.sizes) - kept, 0)])


def _zeros(axes: TensorAxes, rows: int, steps: int) -> Array:
    sizes = [
        rows if axis == axes.batch else steps if axis == axes.time else size
        for axis, size in enumerate(axes.tensor.sizes)
    ]
    return np.zeros([int(size) for size in sizes], axes.tensor.dtype)


def _load(path: Path, content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = _LOG_FATAL
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise SourceError(path, f"onnxruntime cannot load it: {str(error).strip().splitlines()[0]}") from None
