"""Finds the role of every input and output of a foreign graph: data, state or lengths."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from statewise.export.base import SourceError
from statewise.export.onnx_import._data_flow import DataFlow
from statewise.export.onnx_import._graph_tensor import GraphTensor, graph_tensor
from statewise.export.onnx_import._state_matching import StateMatch, match_states


@dataclass(frozen=True)
class TensorRoles:
    """A graph's inputs and outputs by role.

    Attributes:
        inputs: Data that callers send.
        outputs: Data that callers get.
        state: In the order of the graph's inputs.
        lengths: The input that holds each row's number of time steps.
    """

    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    state: tuple[StateMatch, ...]
    lengths: GraphTensor | None


def find_roles(path: Path, graph: onnx.GraphProto, *, declared: Mapping[str, str]) -> TensorRoles:
    """Finds the roles from the structure of the graph.

    Args:
        path: Named in errors.
        graph: Of a model that the checker passed.
        declared: Names of state outputs by those of state inputs, from the user.

    Raises:
        SourceError: no state, a choice that the graph leaves open, or no data beside the state.
    """
    stored = {entry.name for entry in graph.initializer}
    inputs = {entry.name: graph_tensor(path, entry) for entry in graph.input if entry.name not in stored}
    outputs = {entry.name: graph_tensor(path, entry) for entry in graph.output}
    for names, known in ((declared.keys(), inputs), (declared.values(), outputs)):
        for name in names:
            if name not in known:
                raise SourceError(path, f"state {name!r}: expected one of {', '.join(map(repr, known))}")
    flow = DataFlow(graph)
    idle = [name for name in inputs if not any(flow.depends(output, name) for output in outputs)]
    if idle:
        raise SourceError(
            path, f"input {idle[0]!r}: expected every input to reach an output; it reaches none"
        )
    lengths = next((tensor for tensor in inputs.values() if flow.gives_lengths(tensor.name)), None)
    state = match_states(path, inputs, outputs, flow, declared)
    before = {match.input.name for match in state} | {lengths.name if lengths else ""}
    after = {match.output.name for match in state}
    roles = TensorRoles(
        inputs=tuple(tensor for tensor in inputs.values() if tensor.name not in before),
        outputs=tuple(tensor for tensor in outputs.values() if tensor.name not in after),
        state=state,
        lengths=lengths,
    )
    if not roles.inputs or not roles.outputs:
        raise SourceError(
            path, "expected an input and an output beside the state; every one seems to be state"
        )
    return roles
