"""Finds the role of every input and output of a foreign graph: data, state or lengths."""

from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from statewise.export.base import SourceError
from statewise.export.onnx_import.discovery._data_flow import DataFlow
from statewise.export.onnx_import.discovery._graph_tensor import GraphTensor, graph_tensor
from statewise.export.onnx_import.discovery._import_options import ImportOptions
from statewise.export.onnx_import.discovery._state_matching import StateMatch, match_states, refuse_undecided
from statewise.wire import DTYPES


@dataclass(frozen=True)
class TensorRoles:
    """A graph's inputs and outputs by role.

    Attributes:
        inputs: Data that callers send.
        outputs: Data that callers get.
        state: In the order of the graph's inputs.
        lengths: The input that holds each row's number of time steps.
        vocabulary_sizes: For inputs that are tokens: the number of tokens, by name.
        notes: Inputs and outputs that the package does not have, for people.
        predict_only: Every sequence begins at the initial states, and no state leaves the graph.
    """

    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    state: tuple[StateMatch, ...]
    lengths: GraphTensor | None
    vocabulary_sizes: dict[str, int]
    notes: tuple[str, ...] = ()
    predict_only: bool = False

    def without_sessions(self) -> "TensorRoles":
        """Returns the same graph for Predict alone."""
        return replace(self, predict_only=True)


def find_roles(path: Path, graph: onnx.GraphProto, options: ImportOptions) -> TensorRoles:
    """Finds the roles from the structure of the graph.

    Args:
        path: Named in errors.
        graph: Graph of a model that the checker passed.
        options: What the user says.

    Raises:
        SourceError: no state, a choice that the graph leaves open, or no data beside the state.
    """
    stored = {entry.name for entry in graph.initializer}
    inputs = {entry.name: graph_tensor(path, entry) for entry in graph.input if entry.name not in stored}
    outputs = {entry.name: graph_tensor(path, entry) for entry in graph.output}
    _check_names(path, options, inputs, outputs)
    flow = DataFlow(graph)
    idle = [name for name in inputs if not any(flow.depends(output, name) for output in outputs)]
    notes = [f"input {name} is left out: no output depends on it" for name in idle]
    inputs = {name: tensor for name, tensor in inputs.items() if name not in idle}
    fixed = [name for name in outputs if not any(flow.depends(name, entry) for entry in inputs)]
    fixed = [name for name in fixed if name not in options.outputs]
    notes += [f"output {name} is left out: it depends on no input" for name in fixed]
    outputs = {name: tensor for name, tensor in outputs.items() if name not in fixed}
    lengths = next((tensor for tensor in inputs.values() if flow.gives_lengths(tensor.name)), None)
    data = frozenset({*options.inputs, *options.outputs} - {*options.state, *options.state.values()})
    matches = match_states(inputs, outputs, flow, options.state, data)
    if not options.stateless:
        refuse_undecided(path, matches, inputs, outputs, flow)
    before = {match.input.name for match in matches.found} | {lengths.name if lengths else ""}
    after = {match.output.name for match in matches.found}
    others = [name for name in outputs if name not in after] or list(after)
    if options.outputs:
        others = list(options.outputs)
    elif set(others) <= after:
        notes.append(f"output {', '.join(others)}: the state is also what callers get, for there is no other")
    notes += [f"output {name} is left out" for name in outputs if name not in after and name not in others]
    roles = TensorRoles(
        inputs=tuple(tensor for tensor in inputs.values() if tensor.name not in before),
        outputs=tuple(outputs[name] for name in others),
        state=matches.found,
        lengths=lengths,
        vocabulary_sizes={name: size for name in inputs if (size := flow.vocabulary_size(name))},
        notes=tuple(notes),
        predict_only=options.stateless,
    )
    states = [match.input.name for match in roles.state]
    for name in options.initial:
        if name not in states:
            known = ", ".join(map(repr, states)) or "none, there is no state"
            raise SourceError(path, f"initial {name!r}: expected one of {known}")
    if not roles.inputs:
        raise SourceError(
            path,
            "expected an input beside the state; every one seems to be state: name the data (--input NAME)",
        )
    return roles


def _check_names(
    path: Path,
    options: ImportOptions,
    inputs: dict[str, GraphTensor],
    outputs: dict[str, GraphTensor],
) -> None:
    """Raises SourceError for a name that the graph does not have, and for elements of unknown type."""
    for kind, names, known in (
        ("state", options.state.keys(), inputs),
        ("state", options.state.values(), outputs),
        ("input", options.inputs, inputs),
        ("output", options.outputs, outputs),
        ("axes", options.axes.keys(), inputs | outputs),
    ):
        for name in names:
            if name not in known:
                raise SourceError(path, f"{kind} {name!r}: expected one of {', '.join(map(repr, known))}")
    for tensor in (*inputs.values(), *outputs.values()):
        if tensor.dtype not in DTYPES:
            raise SourceError(
                path, f"{tensor.name!r}: expected elements of {', '.join(DTYPES)}; got {tensor.dtype}"
            )
