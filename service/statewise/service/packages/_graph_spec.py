"""Completes a declaration from its graph: inputs, outputs and states, and where batch and time lie.

Never guesses: which inputs are states is declared, and an axis is batch or time because the declaration, or
the graph's name for it, says so. Errors name the entry, what was expected and what the graph has.
"""

from collections.abc import Mapping
from dataclasses import replace

from statewise.service.engine import AxisLayout, GraphLayout
from statewise.service.packages._axes import (
    GraphValue,
    Values,
    leading,
    required,
    sizes_of,
    state_axes,
    tensor_axes,
    with_trailing_axes,
)
from statewise.service.packages._input_context import check_context, context_pair, sample_shape, windowed
from statewise.wire import (
    BATCH,
    DTYPES,
    TIME,
    AxisWords,
    CallShape,
    MetadataError,
    ModelDeclaration,
    ModelSpec,
    StateDeclaration,
    StatePair,
    StatePart,
    TensorDeclaration,
    TensorSpec,
    check_initial,
    check_parts,
)

_LENGTHS = "statewise.lengths"


def complete_spec(
    declaration: ModelDeclaration, graph_inputs: Values, graph_outputs: Values
) -> tuple[ModelSpec, GraphLayout | None]:
    """Completes the spec of a graph, and finds its layout; None: the graph is in the form of packages.

    Args:
        declaration: Metadata and model.toml, merged.
        graph_inputs: The graph's inputs by name.
        graph_outputs: The graph's outputs by name.

    Raises:
        MetadataError: naming the entry, what was expected and what came.
    """
    return _Completion(declaration, graph_inputs, graph_outputs).result()


class _Completion:
    """One graph: first the axes of every tensor, then the layout of runs, then the spec that callers see."""

    def __init__(self, declaration: ModelDeclaration, inputs: Values, outputs: Values) -> None:
        self._declaration = declaration
        self._graph_inputs = inputs
        self._graph_outputs = outputs
        state_inputs, state_outputs = (
            [getattr(pair, end) for pair in declaration.state] for end in ("input", "output")
        )
        states = [required(inputs, name, "state", "input") for name in state_inputs]
        successors = [required(outputs, name, "state", "output") for name in state_outputs]
        for name in (*state_inputs, *state_outputs):
            pairs = max(state_inputs.count(name), state_outputs.count(name))
            if pairs > 1:
                raise MetadataError(f"state {name!r}: expected in one pair; it is in {pairs}")
        self._lengths = self._lengths_input()
        self._inputs = _declared_inputs_and_others(declaration, inputs, {*state_inputs, declaration.lengths})
        self._names = [entry.name for entry in self._inputs] + state_inputs
        self._state_axes = [
            state_axes(pair, before, after)
            for pair, before, after in zip(declaration.state, states, successors, strict=True)
        ]
        self._outputs = _outputs(
            declaration, outputs, dict(zip(state_outputs, self._state_axes, strict=True))
        )
        self._context_axes: dict[str, int] = {}
        self._input_axes: list[AxisWords] = []
        for number, entry in enumerate(self._inputs):
            fixed_time = 1 + entry.context if entry.hop is None else None
            axes = tensor_axes("input", entry, inputs[entry.name], fixed_time=fixed_time)
            self._inputs[number], axes, axis = windowed(entry, axes, inputs[entry.name])
            self._context_axes[entry.name] = axis
            self._input_axes.append(axes)
        for entry in self._outputs:
            outputs = {**outputs, entry.name: with_trailing_axes(entry, outputs[entry.name])}
        self._graph_outputs = outputs
        self._output_axes = [
            tensor_axes("output", entry, outputs[entry.name], fixed_time=None) for entry in self._outputs
        ]

    def result(self) -> tuple[ModelSpec, GraphLayout | None]:
        one_row, one_step = self._one_row(), self._one_step()
        inputs = [
            self._axis_layout("input", entry, axes, one_step=one_step, one_row=one_row)
            for entry, axes in zip(self._inputs, self._input_axes, strict=True)
        ]
        outputs = [
            self._axis_layout("output", entry, axes, one_step=one_step, one_row=one_row)
            for entry, axes in zip(self._outputs, self._output_axes, strict=True)
        ]
        layout = GraphLayout(
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            state=tuple(
                AxisLayout(pair.input, axes)
                for pair, axes in zip(self._declaration.state, self._state_axes, strict=True)
            ),
            successors=tuple(pair.output for pair in self._declaration.state),
            lengths=self._lengths,
            one_row=one_row,
            one_step=one_step,
        )
        spec = self._spec(layout)
        plain = (
            not (one_row or one_step)
            and all(
                tensor.axes[: 1 + tensor.per_step] == leading(tensor.per_step) for tensor in inputs + outputs
            )
            and all(tensor.axes[:1] == (BATCH,) for tensor in layout.state)
            and not any(tensor.context for tensor in inputs)
            and (self._lengths is None or self._lengths[1] == "int32")
        )
        return (replace(spec, lengths=self._declaration.lengths), None) if plain else (spec, layout)

    def _one_row(self) -> bool:
        """Returns whether a run takes one row.

        So it is where a batch axis has size 1, or where a state, an output, or every input and state has no
        batch axis.
        """
        into = _sizes_along(BATCH, self._names, [*self._input_axes, *self._state_axes], self._graph_inputs)
        names = [entry.name for entry in self._outputs]
        out = _sizes_along(BATCH, names, self._output_axes, self._graph_outputs)
        without = any(BATCH not in axes for axes in (*self._state_axes, *self._output_axes))
        return not into or without or 1 in into or 1 in out

    def _one_step(self) -> bool:
        """Returns whether a run takes one step: no input has a time axis, or one of them is of fixed size."""
        names = [entry.name for entry in self._inputs]
        times = _sizes_along(TIME, names, self._input_axes, self._graph_inputs)
        return not times or any(isinstance(size, int) for size in times)

    def _lengths_input(self) -> tuple[str, str] | None:
        name = self._declaration.lengths
        if name is None:
            return None
        value = required(self._graph_inputs, name, "lengths", "input")
        if value.dtype not in ("int32", "int64") or len(value.dims) != 1:
            raise MetadataError(
                f"lengths: expected an int32 or int64 input of one axis; got {value.dtype} {list(value.dims)}"
            )
        if any(entry.context or entry.hop for entry in self._declaration.inputs):
            raise MetadataError("lengths: expected none beside an input with context; got " + repr(name))
        return name, value.dtype

    def _axis_layout(
        self, kind: str, entry: TensorDeclaration, axes: AxisWords, *, one_step: bool, one_row: bool
    ) -> AxisLayout:
        per_step = entry.per_step
        if per_step is None:
            shared = kind == "input" and BATCH not in axes and any(BATCH in one for one in self._input_axes)
            per_step = TIME in axes or (one_step and not shared)
        if per_step and TIME not in axes and not one_step:
            raise MetadataError(
                f"{kind} {entry.name!r}: per_step: expected false, for it has no time axis; got true"
            )
        if not per_step and TIME in axes:
            raise MetadataError(
                f"{kind} {entry.name!r}: per_step: expected true, for it has a time axis; got false"
            )
        tensor = AxisLayout(entry.name, axes, per_step, entry.context, self._context_axes.get(entry.name, -1))
        if entry.context:
            check_context(tensor, shared=BATCH not in axes and not one_row)
        return tensor

    def _spec(self, layout: GraphLayout) -> ModelSpec:
        declaration = self._declaration
        inputs = tuple(
            _tensor_spec(entry, tensor, self._graph_inputs)
            for entry, tensor in zip(self._inputs, layout.inputs, strict=True)
        )
        outputs = tuple(
            _tensor_spec(entry, tensor, self._graph_outputs)
            for entry, tensor in zip(self._outputs, layout.outputs, strict=True)
        )
        pairs = [
            StatePair(
                pair.input,
                pair.output,
                self._graph_inputs[pair.input].dtype,
                sizes_of(tensor.axes),
                initial=_initial(pair, sizes_of(tensor.axes), self._graph_inputs[pair.input]),
                parts=_parts(pair, sizes_of(tensor.axes)),
            )
            for pair, tensor in zip(declaration.state, layout.state, strict=True)
        ]
        pairs += [
            context_pair(tensor, entry)
            for tensor, entry in zip(layout.inputs, inputs, strict=True)
            if tensor.context
        ]
        every_step = any(entry.per_step for entry in outputs)
        looped = layout.one_row or layout.one_step
        return ModelSpec(
            inputs,
            outputs,
            tuple(pairs),
            declaration.call_shapes or (CallShape.MANY_TO_MANY if every_step else CallShape.MANY_TO_ONE,),
            lengths=_LENGTHS if looped else declaration.lengths,
            labels=declaration.labels,
            vocabulary=declaration.vocabulary,
            encode=declaration.encode,
            generate=declaration.generate,
            least_steps=declaration.least_steps,
            notes=declaration.notes,
        )


def _sizes_along(word: str, names: list[str], axes: list[AxisWords], graph: Values) -> list[int | str | None]:
    """Returns the sizes of the axes of that word, of the tensors that have one."""
    return [graph[name].dims[own.index(word)] for name, own in zip(names, axes, strict=True) if word in own]


def _parts(pair: StateDeclaration, shape: tuple[int, ...]) -> tuple[StatePart, ...]:
    check_parts(f"state {pair.input!r}: ", pair.parts, shape)
    return pair.parts


def _initial(pair: StateDeclaration, shape: tuple[int, ...], value: GraphValue) -> float | tuple[float, ...]:
    where = f"state {pair.input!r}: "
    assert not isinstance(pair.initial, str), "files have been read"
    if isinstance(pair.initial, tuple):
        check_initial(where, pair.initial, shape)
        return tuple(_whole(f"{where}initial", number, value) for number in pair.initial)
    return _whole(f"{where}initial", pair.initial or 0.0, value)


def _declared_inputs_and_others(
    declaration: ModelDeclaration, graph: Values, reserved: set[str | None]
) -> list[TensorDeclaration]:
    """Lists the declared inputs and then the graph's others, which are neither states nor lengths."""
    for entry in declaration.inputs:
        required(graph, entry.name, "input", "input")
        if entry.name in reserved:
            raise MetadataError(
                f"input {entry.name!r}: expected a name that is no state; it is declared as one"
            )
    names = {entry.name for entry in declaration.inputs} | reserved
    listed = [*declaration.inputs, *(TensorDeclaration(name) for name in graph if name not in names)]
    if not listed:
        raise MetadataError("inputs: expected at least one beside the state; got none")
    return listed


def _outputs(
    declaration: ModelDeclaration, graph: Values, states: Mapping[str, AxisWords]
) -> list[TensorDeclaration]:
    """Lists the declared outputs, else those that are no state, else the states: a filter may have no other.

    Args:
        declaration: An output that it names may be a state, too.
        graph: The graph's outputs.
        states: Axes of the outputs that are states.
    """
    listed = list(declaration.outputs)
    listed = listed or [TensorDeclaration(name) for name in graph if name not in states]
    listed = listed or [TensorDeclaration(name) for name in states]
    for entry in listed:
        required(graph, entry.name, "output", "output")
    return [
        replace(entry, axes=states[entry.name])
        if entry.name in states and entry.axes is None and entry.shape is None
        else entry
        for entry in listed
    ]


def _tensor_spec(entry: TensorDeclaration, tensor: AxisLayout, graph: Values) -> TensorSpec:
    value, where = graph[entry.name], f"input {entry.name!r}"
    shape = sample_shape(tensor)
    if entry.vocabulary_size is not None and DTYPES[value.dtype].kind not in "iu":
        raise MetadataError(f"{where}: vocabulary_size: expected an input of integers; it is {value.dtype}")
    default = None if entry.default is None else _whole(f"{where}: default", entry.default, value)
    return TensorSpec(entry.name, value.dtype, shape, tensor.per_step, default, entry.vocabulary_size)


def _whole(where: str, number: float, value: GraphValue) -> float:
    """Returns the number, if the tensor can hold it."""
    if DTYPES[value.dtype].kind != "f" and not number.is_integer():
        raise MetadataError(f"{where}: expected a whole number for {value.dtype}; got {number}")
    return number
