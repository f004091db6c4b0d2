"""Graphs that are not in the form of packages, run as if they were.

In front of onnxruntime's session stand layers, put together once when a graph is loaded: rows one by one,
steps one by one, rows of equal shared inputs together, context in front of inputs, axes exchanged. Each takes
and gives what a package's graph does, and a graph has only the layers it needs. Nothing here batches what the
graph cannot: a row's answer is that of the graph alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array
from statewise.service.engine._layout import AxisLayout, GraphLayout
from statewise.wire import BATCH, DTYPES, TIME, ModelSpec

Arrays = Sequence[Array]
Chosen = slice | NDArray[np.intp] | list[int]
Lengths = NDArray[np.int32]
Results = tuple[list[Array], list[Array]]
Layer = Callable[[Arrays, Lengths, Arrays], Results]
"""(inputs, lengths, state) -> (outputs, state), in the spec's order: [T, B, ...] per step, else [B, ...]."""
_ALL = slice(None)


class ForeignSession:
    """Stands in the place of onnxruntime's session for a graph with a layout.

    Args:
        session: onnxruntime's.
        spec: What the graph is to callers.
        layout: What it is to onnxruntime.
    """

    def __init__(self, session: Any, spec: ModelSpec, layout: GraphLayout) -> None:
        self._spec = spec
        run: Layer = _Exchange(session, layout)
        if any(place.context for place in layout.inputs):
            run = _Context(run, layout)
        shared = [i for i, place in enumerate(layout.inputs) if BATCH not in place.axes]
        if shared and not layout.one_row:
            run = _AlikeTogether(run, spec, shared)
        if layout.one_step:
            run = _StepByStep(run, spec)
        if layout.one_row:
            run = _RowByRow(run, spec)
        self._run = run
        self._first_step_input = next((e.name for e in spec.inputs if e.per_step), None)

    def run(self, _: Sequence[str], feeds: dict[str, Array]) -> list[Array]:
        """As onnxruntime's, for the names and shapes of the spec: all outputs, then all successors."""
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


class _Exchange:
    """Axes of packages to those of the graph and back, around onnxruntime."""

    def __init__(self, session: Any, layout: GraphLayout) -> None:
        self._session = session
        self._lengths = layout.lengths
        self._inputs = [_Port(place) for place in (*layout.inputs, *layout.state)]
        self._outputs = [_Port(place) for place in layout.outputs] + [
            _Port(AxisLayout(name, place.axes))
            for name, place in zip(layout.successors, layout.state, strict=True)
        ]
        self._names = [port.name for port in self._outputs]
        self._count = len(layout.outputs)

    def __call__(self, inputs: Arrays, lengths: Lengths, state: Arrays) -> Results:
        feeds = {
            port.name: port.to_graph(array)
            for port, array in zip(self._inputs, (*inputs, *state), strict=True)
        }
        if self._lengths is not None:
            name, dtype = self._lengths
            feeds[name] = lengths.astype(dtype)
        results = self._session.run(self._names, feeds)
        rows, steps = len(lengths), int(lengths.max())
        arrays = [
            port.from_graph(np.asarray(array), rows, steps)
            for port, array in zip(self._outputs, results, strict=True)
        ]
        return arrays[: self._count], arrays[self._count :]


class _Port:
    """One tensor on its way in or out."""

    def __init__(self, place: AxisLayout) -> None:
        self.name = place.name
        self._axes = place.axes
        leading = (TIME, BATCH) if place.per_step else (BATCH,)
        order = [place.axes.index(word) for word in leading if word in place.axes]
        order += [number for number, axis in enumerate(place.axes) if isinstance(axis, int)]
        self._order = order
        self._back = np.argsort(order).tolist()
        # A leading axis that the graph lacks is of size 1: dropped on the way in, added on the way out.
        self._drop = tuple(slice(None) if word in place.axes else 0 for word in leading)
        self._add = tuple(slice(None) if word in place.axes else None for word in leading)

    def to_graph(self, array: Array) -> Array:
        return np.asarray(array[self._drop]).transpose(self._back)

    def from_graph(self, array: Array, rows: int, steps: int) -> Array:
        sizes = {BATCH: rows, TIME: steps}
        expected = tuple(sizes[axis] if isinstance(axis, str) else axis for axis in self._axes)
        if array.shape != expected:
            raise ValueError(
                f"{self.name!r}: expected {list(expected)} of the graph; got {list(array.shape)}"
            )
        return array.transpose(self._order)[self._add]


class _Context:
    """Keeps the end of what an input has been, as a state, and puts it in front of what comes."""

    def __init__(self, inner: Layer, layout: GraphLayout) -> None:
        self._inner = inner
        # (input, axis of the [T, B, ...] that grows): time, or the last one.
        self._held = [
            (number, 0 if TIME in place.axes else -1, place.context)
            for number, place in enumerate(layout.inputs)
            if place.context
        ]

    def __call__(self, inputs: Arrays, lengths: Lengths, state: Arrays) -> Results:
        own = len(state) - len(self._held)
        inputs = list(inputs)
        kept = []
        for (number, axis, size), before in zip(self._held, state[own:], strict=True):
            # [B, K, ...] becomes K steps in front; [B, ..., K] lengthens the one step there is.
            front = np.swapaxes(before, 0, 1) if axis == 0 else before[None]
            whole = np.concatenate([front, inputs[number]], axis=axis)
            inputs[number] = whole
            end = whole[-size:] if axis == 0 else whole[0, ..., -size:]
            kept.append(np.swapaxes(end, 0, 1) if axis == 0 else end)
        outputs, successors = self._inner(inputs, lengths, state[:own])
        return outputs, [*successors, *kept]


class _AlikeTogether:
    """Rows that give the same shared inputs share a run, others do not: the graph takes one value for all."""

    def __init__(self, inner: Layer, spec: ModelSpec, shared: Sequence[int]) -> None:
        self._inner = inner
        self._rows = _Rows(spec)
        self._shared = [(number, spec.inputs[number].per_step) for number in shared]

    def __call__(self, inputs: Arrays, lengths: Lengths, state: Arrays) -> Results:
        given = [
            np.swapaxes(inputs[number], 0, 1) if per_step else inputs[number]
            for number, per_step in self._shared
        ]  # [B, ...]
        if all((array == array[:1]).all() for array in given):
            return self._inner(inputs, lengths, state)
        groups: dict[bytes, list[int]] = {}
        for row in range(len(lengths)):
            groups.setdefault(b"".join(array[row].tobytes() for array in given), []).append(row)
        gathered = self._rows.blank(lengths, state)
        for rows in groups.values():
            own, before = self._rows.take(inputs, state, rows)
            self._rows.put(gathered, rows, self._inner(own, lengths[rows], before))
        return gathered


class _StepByStep:
    """Steps one after another; rows that have ended keep their state."""

    def __init__(self, inner: Layer, spec: ModelSpec) -> None:
        self._inner = inner
        self._rows = _Rows(spec)

    def __call__(self, inputs: Arrays, lengths: Lengths, state: Arrays) -> Results:
        steps = int(lengths.max())
        if steps == 1:
            return self._inner(inputs, lengths, state)
        outputs, state = self._rows.blank(lengths, state)
        all_run = int(lengths.min())
        ones = np.ones(len(lengths), np.int32)
        for t in range(steps):
            rows = _ALL if t < all_run else np.flatnonzero(lengths > t)
            own, before = self._rows.take(inputs, state, rows, steps=slice(t, t + 1))
            after = self._inner(own, ones[rows], before)
            self._rows.put((outputs, state), rows, after, begin=t)
        return outputs, state


class _RowByRow:
    """Rows one after another."""

    def __init__(self, inner: Layer, spec: ModelSpec) -> None:
        self._inner = inner
        self._rows = _Rows(spec)

    def __call__(self, inputs: Arrays, lengths: Lengths, state: Arrays) -> Results:
        if len(lengths) == 1:
            return self._inner(inputs, lengths, state)
        gathered = self._rows.blank(lengths, state)
        for row, steps in enumerate(lengths.tolist()):
            one = slice(row, row + 1)
            own, before = self._rows.take(inputs, state, one, steps=slice(0, steps))
            self._rows.put(gathered, one, self._inner(own, lengths[one], before))
        return gathered


class _Rows:
    """Some rows out of the arrays of a run, and back into them."""

    def __init__(self, spec: ModelSpec) -> None:
        self._inputs = [entry.per_step for entry in spec.inputs]
        self._outputs = spec.outputs

    def blank(self, lengths: Lengths, state: Arrays) -> Results:
        """Outputs to be filled, and a copy of the states."""
        rows, steps = len(lengths), int(lengths.max())
        outputs: list[Array] = [
            np.zeros((steps, rows, *e.shape) if e.per_step else (rows, *e.shape), DTYPES[e.dtype])
            for e in self._outputs
        ]
        return outputs, [array.copy() for array in state]

    def take(
        self, inputs: Arrays, state: Arrays, rows: Chosen, *, steps: slice = _ALL
    ) -> tuple[list[Array], list[Array]]:
        """Inputs and states of those rows."""
        own = [
            array[steps, rows] if per_step else array[rows]
            for array, per_step in zip(inputs, self._inputs, strict=True)
        ]
        return own, [array[rows] for array in state]

    def put(self, kept: Results, rows: Chosen, result: Results, *, begin: int = 0) -> None:
        """Writes the results of those rows, from time step `begin` on."""
        for array, own, entry in zip(kept[0], result[0], self._outputs, strict=True):
            if entry.per_step:
                array[begin : begin + len(own), rows] = own
            else:
                array[rows] = own
        for array, own in zip(kept[1], result[1], strict=True):
            array[rows] = own
