"""What a graph takes, gives and keeps: what model.toml and metadata declare, completed from the graph itself.

Not a guess: which inputs are state is declared, and an axis is batch or time because model.toml, or the
graph's name for it, says so. What does not fit is refused, naming the entry, what was expected and what is
there.
"""

from dataclasses import replace

from statewise.service.engine import AxisLayout, GraphLayout
from statewise.service.registry._axes import (
    GraphValue,
    Values,
    leading,
    required,
    state_axes,
    tensor_axes,
)
from statewise.wire import (
    BATCH,
    DTYPES,
    TIME,
    AxisWords,
    CallShape,
    MetadataError,
    ModelDeclaration,
    ModelSpec,
    StatePair,
    TensorDeclaration,
    TensorSpec,
)

_LENGTHS = "statewise.lengths"


def complete(
    declaration: ModelDeclaration, graph_inputs: Values, graph_outputs: Values
) -> tuple[ModelSpec, GraphLayout | None]:
    """The specification of a graph, and its layout unless it is in the form of packages.

    Args:
        declaration: What is known of the graph.
        graph_inputs: By name.
        graph_outputs: By name.

    Raises:
        MetadataError: naming the entry, what was expected and what was found.
    """
    return _Completion(declaration, graph_inputs, graph_outputs).result()


class _Completion:
    """One graph: first the axes of everything, then how runs are laid out, then what callers see."""

    def __init__(self, declaration: ModelDeclaration, inputs: Values, outputs: Values) -> None:
        self._said = declaration
        self._graph_inputs = inputs
        self._graph_outputs = outputs
        befores, afters = ([getattr(pair, end) for pair in declaration.state] for end in ("input", "output"))
        states = [required(inputs, name, "state", "input") for name in befores]
        successors = [required(outputs, name, "state", "output") for name in afters]
        for name in (*befores, *afters):
            pairs = max(befores.count(name), afters.count(name))
            if pairs > 1:
                raise MetadataError(f"state {name!r}: expected in one pair; it is in {pairs}")
        self._lengths = self._lengths_input()
        taken, given = {*befores, declaration.lengths}, set(afters)
        self._inputs = _listed("input", declaration.inputs, inputs, taken, all_of_them=True)
        self._outputs = _listed(
            "output", declaration.outputs, outputs, given, all_of_them=not declaration.outputs
        )
        self._names = [entry.name for entry in self._inputs] + befores
        self._state_axes = [
            state_axes(pair, before, after)
            for pair, before, after in zip(declaration.state, states, successors, strict=True)
        ]
        self._input_axes = [
            tensor_axes("input", entry, inputs[entry.name], fixed_time=1 + entry.context)
            for entry in self._inputs
        ]
        self._output_axes = [
            tensor_axes("output", entry, outputs[entry.name], fixed_time=None) for entry in self._outputs
        ]

    def result(self) -> tuple[ModelSpec, GraphLayout | None]:
        one_row, one_step = self._one_row(), self._one_step()
        inputs = [
            self._place("input", entry, axes, one_step=one_step, one_row=one_row)
            for entry, axes in zip(self._inputs, self._input_axes, strict=True)
        ]
        outputs = [
            self._place("output", entry, axes, one_step=one_step, one_row=one_row)
            for entry, axes in zip(self._outputs, self._output_axes, strict=True)
        ]
        layout = GraphLayout(
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            state=tuple(
                AxisLayout(pair.input, axes)
                for pair, axes in zip(self._said.state, self._state_axes, strict=True)
            ),
            successors=tuple(pair.output for pair in self._said.state),
            lengths=self._lengths,
            one_row=one_row,
            one_step=one_step,
        )
        spec = self._spec(layout)
        plain = (
            not (one_row or one_step)
            and all(place.axes[: 1 + place.per_step] == leading(place.per_step) for place in inputs + outputs)
            and all(place.axes[:1] == (BATCH,) for place in layout.state)
            and not any(place.context for place in inputs)
            and (self._lengths is None or self._lengths[1] == "int32")
        )
        return (replace(spec, lengths=self._said.lengths), None) if plain else (spec, layout)

    def _one_row(self) -> bool:
        """Whether a run takes one row: a batch axis is fixed, or something that every row has has none."""
        batches = [
            self._graph_inputs[name].dims[axes.index(BATCH)]
            for name, axes in zip(self._names, [*self._input_axes, *self._state_axes], strict=True)
            if BATCH in axes
        ]
        without = any(BATCH not in axes for axes in (*self._state_axes, *self._output_axes))
        return not batches or without or 1 in batches

    def _one_step(self) -> bool:
        """Whether a run takes one step: no input has a time axis of free size."""
        times = [
            self._graph_inputs[entry.name].dims[axes.index(TIME)]
            for entry, axes in zip(self._inputs, self._input_axes, strict=True)
            if TIME in axes
        ]
        return not times or any(isinstance(size, int) for size in times)

    def _lengths_input(self) -> tuple[str, str] | None:
        name = self._said.lengths
        if name is None:
            return None
        value = required(self._graph_inputs, name, "lengths", "input")
        if value.dtype not in ("int32", "int64") or len(value.dims) != 1:
            raise MetadataError(
                f"lengths: expected an int32 or int64 input of one axis; got {value.dtype} {list(value.dims)}"
            )
        if any(entry.context for entry in self._said.inputs):
            raise MetadataError("lengths: expected none beside an input with context; got " + repr(name))
        return name, value.dtype

    def _place(
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
        place = AxisLayout(entry.name, axes, per_step, entry.context)
        if entry.context:
            _check_context(place, shared=BATCH not in axes and not one_row)
        return place

    def _spec(self, layout: GraphLayout) -> ModelSpec:
        said = self._said
        inputs = tuple(
            _tensor_spec(entry, place, self._graph_inputs)
            for entry, place in zip(self._inputs, layout.inputs, strict=True)
        )
        outputs = tuple(
            _tensor_spec(entry, place, self._graph_outputs)
            for entry, place in zip(self._outputs, layout.outputs, strict=True)
        )
        pairs = [
            StatePair(
                pair.input,
                pair.output,
                self._graph_inputs[pair.input].dtype,
                _sizes(place.axes),
                initial=_whole(
                    f"state {pair.input!r}: initial", pair.initial or 0.0, self._graph_inputs[pair.input]
                ),
                parts=pair.parts,
            )
            for pair, place in zip(said.state, layout.state, strict=True)
        ]
        pairs += [
            _context_pair(place, entry)
            for place, entry in zip(layout.inputs, inputs, strict=True)
            if place.context
        ]
        every_step = any(entry.per_step for entry in outputs)
        looped = layout.one_row or layout.one_step
        return ModelSpec(
            inputs,
            outputs,
            tuple(pairs),
            said.call_shapes or (CallShape.MANY_TO_MANY if every_step else CallShape.MANY_TO_ONE,),
            lengths=_LENGTHS if looped else said.lengths,
            labels=said.labels,
            vocabulary=said.vocabulary,
            encode=said.encode,
            generate=said.generate,
            notes=said.notes,
        )


def _check_context(place: AxisLayout, *, shared: bool) -> None:
    where, sizes = f"input {place.name!r}: context", _sizes(place.axes)
    if shared or not place.per_step:
        raise MetadataError(
            f"{where}: expected 0 for what is the same for all rows or steps; got {place.context}"
        )
    if TIME not in place.axes and (not sizes or sizes[-1] <= place.context):
        raise MetadataError(
            f"{where}: expected less than the last axis of {list(place.axes)}; got {place.context}"
        )


def _listed(
    kind: str,
    declared: tuple[TensorDeclaration, ...],
    graph: Values,
    taken: set[str | None] | set[str],
    *,
    all_of_them: bool,
) -> list[TensorDeclaration]:
    """The declared tensors, and where asked for the graph's others, in the graph's order behind them."""
    for entry in declared:
        required(graph, entry.name, kind, kind)
        if entry.name in taken:
            raise MetadataError(
                f"{kind} {entry.name!r}: expected a name that is no state; it is declared as one"
            )
    names = {entry.name for entry in declared} | taken
    others = [TensorDeclaration(name) for name in graph if name not in names] if all_of_them else []
    listed = [*declared, *others]
    if not listed:
        raise MetadataError(f"{kind}s: expected at least one beside the state; got none")
    return listed


def _tensor_spec(entry: TensorDeclaration, place: AxisLayout, graph: Values) -> TensorSpec:
    value, where = graph[entry.name], f"input {entry.name!r}"
    shape = _sizes(place.axes)
    if place.context and TIME not in place.axes:
        shape = (*shape[:-1], shape[-1] - place.context)
    if entry.vocabulary_size is not None and DTYPES[value.dtype].kind not in "iu":
        raise MetadataError(f"{where}: vocabulary_size: expected an input of integers; it is {value.dtype}")
    default = None if entry.default is None else _whole(f"{where}: default", entry.default, value)
    return TensorSpec(entry.name, value.dtype, shape, place.per_step, default, entry.vocabulary_size)


def _whole(where: str, number: float, value: GraphValue) -> float:
    """A number that the tensor can hold."""
    if DTYPES[value.dtype].kind != "f" and not number.is_integer():
        raise MetadataError(f"{where}: expected a whole number for {value.dtype}; got {number}")
    return number


def _context_pair(place: AxisLayout, entry: TensorSpec) -> StatePair:
    shape = entry.shape
    shape = (place.context, *shape) if TIME in place.axes else (*shape[:-1], place.context)
    name = f"{place.name}.context"
    return StatePair(name, name, entry.dtype, shape)


def _sizes(axes: AxisWords) -> tuple[int, ...]:
    return tuple(axis for axis in axes if isinstance(axis, int))
