"""Where batch and time lie in a foreign graph's inputs and outputs, found by running it.

Sizes that a file leaves free have names, but exporters rarely agree on them. What decides is a run with sizes
that occur nowhere else: an output's axis of the batch's size is its batch axis.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from statewise.export.base import SourceError, limited_run
from statewise.export.onnx_import._tensor_roles import Discovery, Value

Array = NDArray[Any]

_ROWS = (3, 5, 7, 11, 13, 17)  # sizes to try with; such as no other axis has
_STEPS = (2, 19, 23, 29, 31, 37)
_RUN_LIMIT_S = 20.0  # of a run of some steps on zeros
_LOG_FATAL = 4


@dataclass(frozen=True)
class Axes:
    """The axes of one input or output.

    Attributes:
        value: Its name, type and sizes.
        time: Axis of the time steps, or None.
        batch: Axis of the rows, or None.
        dropped: Axes of size 1 that stand for a batch or a step of one; one sample has them not.
    """

    value: Value
    time: int | None = None
    batch: int | None = None
    dropped: tuple[int, ...] = ()

    @property
    def order(self) -> tuple[int, ...]:
        """The kept axes as packages have them: time, batch, the others."""
        first = [axis for axis in (self.time, self.batch) if axis is not None]
        return (
            *first,
            *(axis for axis in range(len(self.value.dims)) if axis not in (*first, *self.dropped)),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample, without batch and time."""
        sizes = [self.value.dims[axis] for axis in self.order if axis not in (self.time, self.batch)]
        assert all(isinstance(size, int) for size in sizes), "free sizes are batch or time"
        return tuple(size for size in sizes if isinstance(size, int))


@dataclass(frozen=True)
class Layout:
    """The axes of everything, and what a run of the graph can hold.

    Attributes:
        inputs: As of the discovery.
        outputs: As of the discovery.
        state: Inputs of the state pairs.
        one_row: The graph has no batch axis, or a fixed batch of 1: it runs one row at a time.
        one_step: The graph has no time axis: it runs one step at a time.
    """

    inputs: tuple[Axes, ...]
    outputs: tuple[Axes, ...]
    state: tuple[Axes, ...]
    one_row: bool
    one_step: bool


def find_layout(path: Path, content: bytes, found: Discovery) -> Layout:
    """Finds the axes.

    Raises:
        SourceError: a free size that is neither batch nor time, an input without a batch axis beside states
            that have one, or a graph that onnxruntime cannot run that way; naming inputs and sizes.
    """
    session = _load(path, content)
    one_row = not any(pair.input.free for pair in found.state)
    reasons: list[str] = []
    for inputs, state in _assignments(path, found, one_row=one_row):
        used = {size for axes in (*inputs, *state) for size in axes.value.dims}
        rows = next(size for size in _ROWS if size not in used)
        steps = next(size for size in _STEPS if size not in used)
        feed = {axes.value.name: _zeros(axes, rows, steps) for axes in (*inputs, *state)}
        if found.lengths is not None:
            size = rows if found.lengths.free else 1
            feed[found.lengths.name] = np.full(size, steps, found.lengths.dtype)
        names = [value.name for value in found.outputs] + [pair.output.name for pair in found.state]
        try:
            with limited_run(_RUN_LIMIT_S) as options:
                shapes = [array.shape for array in session.run(names, feed, options)]
        except Exception as error:
            reasons.append(str(error).strip().splitlines()[0])
            continue
        after = shapes[len(found.outputs) :]
        if any(shape != feed[axes.value.name].shape for shape, axes in zip(after, state, strict=True)):
            reasons.append(f"state of shapes {after} after {[feed[axes.value.name].shape for axes in state]}")
            continue
        one_step = all(axes.time is None for axes in inputs)
        outputs = tuple(
            _output(value, shape, rows=None if one_row else rows, steps=None if one_step else steps)
            for value, shape in zip(found.outputs, shapes, strict=False)
        )
        return Layout(inputs, outputs, state, one_row, one_step)
    raise SourceError(path, f"onnxruntime cannot run the graph on zeros: {reasons[0]}")


def _assignments(
    path: Path, found: Discovery, *, one_row: bool
) -> Iterator[tuple[tuple[Axes, ...], tuple[Axes, ...]]]:
    """Possible axes of the inputs and of the state, likeliest first."""
    state = []
    for pair in found.state:
        free = pair.input.free
        if one_row == bool(free):
            raise SourceError(
                path, f"state {pair.input.name!r}: expected a free batch size, as others have it"
            )
        state.append(Axes(pair.input, batch=free[0] if free else None))
    symbols = {str(axes.value.dims[axes.batch]) for axes in state if axes.batch is not None}
    choices = [list(_input_choices(path, value, symbols, one_row=one_row)) for value in found.inputs]
    for inputs in itertools.product(*choices):
        yield tuple(inputs), tuple(state)


def _input_choices(path: Path, value: Value, symbols: set[str], *, one_row: bool) -> Iterator[Axes]:
    free = value.free
    if len(free) > (1 if one_row else 2):
        raise SourceError(
            path, f"input {value.name!r} {list(value.dims)}: expected batch and time to be all that is free"
        )
    if one_row:
        yield Axes(value, time=free[0] if free else None, dropped=_ones(value, kept=1))
        return
    if not free:
        raise SourceError(
            path,
            f"input {value.name!r} {list(value.dims)}: expected a batch axis as the state has; what is the "
            "same for all rows can be made a constant (--constant NAME=VALUE)",
        )
    batches = [axis for axis in free if value.dims[axis] in symbols]
    for batch in batches if len(batches) == 1 else free:
        time = next((axis for axis in free if axis != batch), None)
        yield Axes(
            value, time=time, batch=batch, dropped=() if time is not None else _ones(value, kept=2)[:1]
        )


def _ones(value: Value, *, kept: int) -> tuple[int, ...]:
    """Axes of size 1 in front of the features, as long as so many axes are left."""
    ones = [axis for axis, size in enumerate(value.dims[:-1]) if size == 1]
    return tuple(ones[: max(len(value.dims) - kept, 0)])


def _output(value: Value, shape: tuple[int, ...], *, rows: int | None, steps: int | None) -> Axes:
    batch = shape.index(rows) if rows in shape else None
    time = shape.index(steps) if steps in shape else None
    actual = Value(value.name, value.dtype, shape)
    kept = 1 + (batch is not None) + (time is not None)
    whole = batch is not None and time is not None
    return Axes(actual, time, batch, () if whole or len(shape) <= kept else _ones(actual, kept=kept))


def _zeros(axes: Axes, rows: int, steps: int) -> Array:
    sizes = [
        rows if axis == axes.batch else steps if axis == axes.time else size
        for axis, size in enumerate(axes.value.dims)
    ]
    return np.zeros([int(size) for size in sizes], axes.value.dtype)


def _load(path: Path, content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = _LOG_FATAL
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise SourceError(path, f"onnxruntime cannot load it: {str(error).strip().splitlines()[0]}") from None
