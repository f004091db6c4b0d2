"""Runs graphs that are not in the form of packages as if they were.

Layers stand in front of onnxruntime's session, put together once when a graph is loaded: rows one by one,
steps one by one, rows of equal shared inputs together, context in front of inputs, axes exchanged. Each layer
takes and gives the arrays of a package's graph, and a graph has only the layers it needs. No layer batches
what the graph cannot batch: a row's result is that of the graph run on this row alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, Indices, blank_padded, put_padded, take_padded
from statewise.service.engine._layout import AxisLayout, GraphLayout
from statewise.wire import BATCH, TIME, ModelSpec

Arrays = Sequence[Array]
Rows = slice | Indices
Lengths = NDArray[np.int32]
Results = tuple[list[Array], list[Array]]
Layer = Callable[[Arrays, Lengths, Arrays], Results]
"""(inputs, lengths, state) -> (outputs, state), in the spec's order: [T, B, ...] per step, else [B, ...]."""
_ALL = slice(None)


class ForeignSession:
    """Takes the place of onnxruntime's session for a graph with a layout.

    Args:
        session: onnxruntime's.
        spec: The graph's inputs and outputs as callers see them.
        layout: The graph's inputs and outputs as onnxruntime sees them.
    """

    def __init__(self, session: Any, spec: ModelSpec, layout: GraphLayout) -> None:
        self._spec = spec
        run: Layer = _AxisExchange(session, layout)
        if any(entry.context for entry in layout.inputs):
            run = _InputContext(run, layout)
        shared = [i for i, entry in enumerate(layout.inputs) if BATCH not in entry.axes]
        if shared and not layout.one_row:
            run = _GroupBySharedInputs(run, spec, shared)
        if layout.one_step:
            run = _StepByStep(run, spec)
        if layout.one_row:
            run = _RowByRow(run, spec)
        self._run = run
        self._first_step_input = next((e.name for e in spec.inputs if e.per_step), None)

    def run(self, _: Sequence[str], feeds: dict[str, Array]) -> list[Array]:
        """Works like onnxruntime's `run`, but for the names and shapes of the spec; successors come last."""
        spec = self._spec
        inputs = [feeds[entry.name] for entry in spec.inputs]
        state = [feeds[pair.input] for pair in spec.state]
        if spec.lengths is not None:
            lengths = feeds[spec.lengths]
        else:
            steps = 1 if self._first_step_input is None else len(feeds[self._first_step_input])
            rows = state[0].shape[0] if state else inputs[0].shape[int(spec.inputs[0].per_step)]
            lengths = np.full(rows, steps, np.int32)
        outputs, successors = self._run(inputs, lengths, state)
        return [*outputs, *successors]


class _AxisExchange:
    """Calls onnxruntime with the axes of packages exchanged for those of the graph, and back."""

    def __init__(self, session: Any, layout: GraphLayout) -> None:
        self._session = session
        self._lengths = layout.lengths
        self._inputs = [_TensorExchange(entry) for entry in (*layout.inputs, *layout.state)]
        self._outputs = [_TensorExchange(entry) for entry in layout.outputs] + [
            _TensorExchange(AxisLayout(name, entry.axes))
            for name, entry in zip(layout.successors, layout.state, strict=True)
        ]
        self._names = [tensor.name for tensor in self._outputs]
        self._count = len(layout.outputs)

    def __call__(self, inputs: Arrays, lengths: Lengths, state: Arrays) -> Results:
        feeds = {
            tensor.name: tensor.to_graph(array)
            for tensor, array in zip(self._inputs, (*inputs, *state), strict=True)
        }
        if self._lengths is not None:
            name, dtype = self._lengths
            feeds[name] = lengths.astype(dtype)
        results = self._session.run(self._names, feeds)
        rows, steps = len(lengths), int(lengths.max())
        arrays = [
            tensor.from_graph(np.asarray(array), rows, steps)
            for tensor, array in zip(self._outputs, results, strict=True)
        ]
        return arrays[: self._count], arrays[self._count :]


class _TensorExchange:
    """Exchanges the axes of one tensor."""

    def __init__(self, entry: AxisLayout) -> None:
        self.name = entry.name
        self._axes = entry.axes
        leading = (TIME, BATCH) if entry.per_step else (BATCH,)
        order = [entry.axes.index(word) for word in leading if word in entry.axes]
        order += [number for number, axis in enumerate(entry.axes) if isinstance(axis, int)]
        self._order = order
        self._back = np.argsort(order).tolist()
        # A leading axis that the graph lacks is of size 1: dropped on the way in, added on the way out.
        self._drop = tuple(slice(None) if word in entry.axes else 0 for word in leading)
        self._add = tuple(slice(None) if word in entry.axes else None for word in leading)

    def to_graph(self, array: Array) -> Array:
        return np.asarray(array[self._drop]).transpose(self._back)

    def from_graph(self, array: Array, rows: int, steps: int) -> Array:
        sizes = {BATCH: rows, TIME: steps}
        expected = tuple(sizes[axis] if isinstance(axis, str) else axis for axis in self._axes)
        if array.shape != expected and _trimmed(array.shape) == _trimmed(expected):
            array = array.reshape(expected)
        if array.shape != expected:
            raise ValueError(
                f"{self.name!r}: expected {list(expected)} of the graph; got {list(array.shape)}"
            )
        return array.transpose(self._order)[self._add]


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drops trailing axes of size 1: graphs give [] where [1] is declared."""
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


class _InputContext:
    """Keeps the last values of an input as a state, and puts them in front of the input's next values."""

    def __init__(self, inner: Layer, layout: GraphLayout) -> None:
        self._inner = inner
        # (input, axis of the [T, B, ...] that grows: time or one of the sample's, number of values kept)
        self._held = [
            (number, 0 if TIME in entry.axes else entry.context_axis, entry.context)
            for number, entry in enumerate(layout.inputs)
            if entry.context
        ]

    def __call__(self, inputs: Arrays, lengths: Lengths, state: Arrays) -> Results:
        own = len(state) - len(self._held)
        inputs = list(inputs)
        kept = []
        for (number, axis, size), before in zip(self._held, state[own:], strict=True):
            # [B, K, ...] becomes K steps in front; [B, ..., K, ...] lengthens the one step there is.
            front = np.swapaxes(before, 0, 1) if axis == 0 else before[None]
            whole = np.concatenate([front, inputs[number]], axis=axis)
            inputs[number] = whole
            if axis == 0:
                kept.append(np.swapaxes(whole[-size:], 0, 1))
            else:
                kept.append(np.moveaxis(np.moveaxis(whole[0], axis, 0)[-size:], 0, axis))
        outputs, successors = self._inner(inputs, lengths, state[:own])
        return outputs, [*successors, *kept]


class _GroupBySharedInputs:
    """Batches only rows with equal shared inputs: the graph takes one value of these for a whole batch."""

    def __init__(self, inner: Layer, spec: ModelSpec, shared: Sequence[int]) -> None:
        self._inner = inner
        self._spec = spec
        self._shared = [(number, spec.inputs[number].per_step) for number in shared]

    def __call__(self, inputs: Arrays, lengths: Lengths, state: Arrays) -> Results:
        shared = [
            np.swapaxes(inputs[number], 0, 1) if per_step else inputs[number]
            for number, per_step in self._shared
        ]  # [B, ...]
        if all((array == array[:1]).all() for array in shared):
            return self._inner(inputs, lengths, state)
        groups: dict[bytes, list[int]] = {}
        for row in range(len(lengths)):
            groups.setdefault(b"".join(array[row].tobytes() for array in shared), []).append(row)
        results = _blank(self._spec, lengths, state)
        for members in groups.values():
            rows = np.array(members, np.intp)
            own = take_padded(self._spec.inputs, inputs, rows)
            before = [array[rows] for array in state]
            _put(self._spec, results, rows, self._inner(own, lengths[rows], before))
        return results


class _StepByStep:
    """Runs steps one after another; rows that have ended keep their state."""

    def __init__(self, inner: Layer, spec: ModelSpec) -> None:
        self._inner = inner
        self._spec = spec

    def __call__(self, inputs: Arrays, lengths: Lengths, state: Arrays) -> Results:
        steps = int(lengths.max())
        if steps == 1:
            return self._inner(inputs, lengths, state)
        _, state = results = _blank(self._spec, lengths, state)
        all_run = int(lengths.min())
        ones = np.ones(len(lengths), np.int32)
        for t in range(steps):
            rows = _ALL if t < all_run else np.flatnonzero(lengths > t)
            own = take_padded(self._spec.inputs, inputs, rows, steps=slice(t, t + 1))
            after = self._inner(own, ones[rows], [array[rows] for array in state])
            _put(self._spec, results, rows, after, begin=t)
        return results


class _RowByRow:
    """Runs rows one after another."""

    def __init__(self, inner: Layer, spec: ModelSpec) -> None:
        self._inner = inner
        self._spec = spec

    def __call__(self, inputs: Arrays, lengths: Lengths, state: Arrays) -> Results:
        if len(lengths) == 1:
            return self._inner(inputs, lengths, state)
        results = _blank(self._spec, lengths, state)
        for row, steps in enumerate(lengths.tolist()):
            one = slice(row, row + 1)
            own = take_padded(self._spec.inputs, inputs, one, steps=slice(0, steps))
            before = [array[one] for array in state]
            _put(self._spec, results, one, self._inner(own, lengths[one], before))
        return results


def _blank(spec: ModelSpec, lengths: Lengths, state: Arrays) -> Results:
    """Makes outputs to be filled, and copies the states."""
    outputs = blank_padded(spec.outputs, len(lengths), int(lengths.max()))
    return outputs, [array.copy() for array in state]


def _put(spec: ModelSpec, results: Results, rows: Rows, own: Results, *, begin: int = 0) -> None:
    """Writes the results of some rows into those of all rows, from time step `begin` on."""
    put_padded(spec.outputs, results[0], rows, own[0], begin=begin)
    for kept, array in zip(results[1], own[1], strict=True):
        kept[rows] = array
