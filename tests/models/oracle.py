"""Runs networks by the equations of their cells, row by row and step by step: the oracle of all fast code."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from statewise.models import Network, NetworkSpec
from statewise.models.cells.equations import ACTIVATIONS, gru_step, lstm_step, rnn_step, sigma
from statewise.models.networks import ActivationName, CellName

Floats = npt.NDArray[np.floating[Any]]


class CellFields(TypedDict):
    """The fields of a NetworkSpec that choose a cell."""

    cell: CellName
    activation: NotRequired[ActivationName]
    reset_after: NotRequired[bool]


class Weights(TypedDict):
    """The parameters of a cell without bR, by the names of the equations' arguments."""

    W: Floats
    R: Floats
    b: Floats


# Every cell and variant that the package has; the conformance tests run over all of them.
CELLS: dict[str, CellFields] = {
    "rnn-tanh": {"cell": "rnn"},
    "rnn-sigmoid": {"cell": "rnn", "activation": "sigmoid"},
    "rnn-relu": {"cell": "rnn", "activation": "relu"},
    "lstm": {"cell": "lstm"},
    "lstm-sigmoid-candidate": {"cell": "lstm", "activation": "sigmoid"},
    "gru-reset-before": {"cell": "gru"},
    "gru-reset-after": {"cell": "gru", "reset_after": True},
    "gru-sigmoid-candidate": {"cell": "gru", "activation": "sigmoid"},
}


def cell_step(
    spec: NetworkSpec, weights: Mapping[str, Floats], x: Floats, memories: Sequence[Floats]
) -> tuple[Floats, ...]:
    """One step of a spec's cell: inputs [I, B] and memories [H, B] to memories [H, B], h first."""
    phi = ACTIVATIONS[spec.activation]
    match spec.cell:
        case "rnn":
            return (rnn_step(x, *memories, **weights, activation=phi),)
        case "lstm":
            return lstm_step(x, *memories, **weights, candidate=phi)
        case _:
            return (gru_step(x, *memories, **weights, candidate=phi),)


def run_row(network: Network, x: Floats, state: Floats | None = None) -> tuple[Floats, Floats]:
    """Runs a sequence [T, I] from memories [M] (zeros): the outputs, [T, O] or [O], and the memories [M]."""
    spec = network.spec
    before = np.zeros(spec.memory_size, x.dtype) if state is None else state
    after = np.zeros_like(before)
    memories = {name: slice(offset, offset + size) for name, offset, size in spec.memory_parts()}
    for layer in range(spec.layers):
        outputs, final = [], []
        for direction in spec.directions:
            name = f"layer{layer}.{direction}"
            slices = [part for key, part in memories.items() if key.startswith(f"{name}.")]
            carried: tuple[Floats, ...] = tuple(before[part][:, None] for part in slices)
            steps = []
            for column in x if direction == "forward" else x[::-1]:
                carried = cell_step(spec, network.parameters.part(name), column[:, None], carried)
                steps.append(carried[0][:, 0])
            for part, memory in zip(slices, carried, strict=True):
                after[part] = memory[:, 0]
            outputs.append(np.array(steps if direction == "forward" else steps[::-1]))
            final.append(steps[-1])
        x = np.concatenate(outputs, axis=1)
    read = np.concatenate(final) if spec.final else x
    return head(network, read), after


def head(network: Network, h: Floats) -> Floats:
    """y = O(V h + c) of h [..., D*H]."""
    scores = h @ network.parameters["head.V"].T + network.parameters["head.c"]
    match network.spec.head:
        case "softmax":
            return np.asarray(np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True))
        case "sigmoid":
            return sigma(scores)
        case _:
            return np.asarray(scores)


def random_network(rng: np.random.Generator, spec: NetworkSpec) -> Network:
    """A float64 network with random parameters, small enough that relu cells stay finite for a few steps."""
    shapes = spec.parameter_shapes()
    return Network(spec, {name: 0.4 * rng.standard_normal(shape) for name, shape in shapes.items()})
