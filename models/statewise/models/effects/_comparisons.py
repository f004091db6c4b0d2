"""Compares two trained networks that differ in one thing, with the same recipe, data and seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from statewise.models.base import Array, Floats, blas_threads
from statewise.models.datasets import LabelledSequences
from statewise.models.networks import ActivationName, Network
from statewise.models.problems import make_problem, recipe_data, shuffled_in_time
from statewise.models.recipes import Recipe
from statewise.models.training import fit, start


@dataclass(frozen=True, kw_only=True)
class OrderEffect:
    """Test accuracies of one recipe.

    Attributes:
        in_order: Trained and tested on sequences in order.
        read_shuffled: The same network, tested on sequences whose steps are in random order.
        trained_shuffled: Another network, trained and tested on sequences in random order.
    """

    in_order: float
    read_shuffled: float
    trained_shuffled: float


def order_effect(recipe: Recipe) -> OrderEffect:
    """Measures how much a classification depends on the order of the steps.

    Args:
        recipe: With `task = "classify"` and data that has a test part, such as vowels.

    Raises:
        ValueError: It is another task.
    """
    data = _labelled(recipe)
    rng = np.random.default_rng([recipe.train.seed, 6])
    shuffled = shuffled_in_time(data, rng)
    network, in_order = _trained(recipe, data)
    return OrderEffect(
        in_order=in_order,
        # Shuffling changes neither mean nor deviation, so both problems normalise alike.
        read_shuffled=make_problem(recipe, shuffled).evaluate(network, "test")["accuracy"],
        trained_shuffled=_trained(recipe, shuffled)[1],
    )


@dataclass(frozen=True, kw_only=True)
class CandidateEffect:
    """The effect of a candidate gate's activation.

    Attributes:
        accuracy: On the test part.
        candidate_mean: Mean value of the candidate gate over the test part: near 0 for tanh, which can also
            subtract from the memory, well above 0 for sigmoid, which can only add to it.
        memory_mean: Mean value of the memory (c of the LSTM, h of the GRU) over the test part.
    """

    accuracy: float
    candidate_mean: float
    memory_mean: float


def candidate_effect(recipe: Recipe) -> dict[str, CandidateEffect]:
    """Compares an LSTM or GRU with a tanh candidate to one with a sigmoid candidate.

    Args:
        recipe: With `task = "classify"` and data that has a test part, such as vowels.

    Returns:
        By the name of the activation.

    Raises:
        ValueError: It is another task, or the cell has no candidate gate.
    """
    if recipe.network.cell == "rnn":
        raise ValueError("network.cell: expected lstm or gru, a plain RNN has no candidate gate")
    data = _labelled(recipe)
    effects: dict[str, CandidateEffect] = {}
    choices: tuple[ActivationName, ...] = ("tanh", "sigmoid")
    for activation in choices:
        network = replace(recipe.network, activation=activation)
        trained, accuracy = _trained(replace(recipe, network=network), data)
        problem = make_problem(recipe, data)
        values = [gate_values(trained, problem.normalisation.inputs(x)) for x in data.test]
        candidate = "g" if recipe.network.cell == "lstm" else "n"
        memory = "c" if recipe.network.cell == "lstm" else "h"
        effects[activation] = CandidateEffect(
            accuracy=accuracy,
            candidate_mean=float(np.mean(np.concatenate([v[f"layer0.{candidate}"] for v in values]))),
            memory_mean=float(np.mean(np.concatenate([v[f"layer0.{memory}"] for v in values]))),
        )
    return effects


def gate_values(network: Network, x: Array) -> dict[str, Floats]:
    """Returns values of every gate and memory of a one-way network that reads one sequence.

    Args:
        network: One-way.
        x: [T, I], or tokens [T], in the network's units.

    Returns:
        [T, H] by name, such as "layer0.i", "layer0.f", "layer0.o", "layer0.g", "layer0.h", "layer0.c".
    """
    _, _, tape = network.forward(x[:, None])
    values: dict[str, Floats] = {}
    names = {"lstm": "ifog", "gru": "zrn", "rnn": ""}[network.spec.cell]
    for layer, directions in enumerate(tape.layers.cells):
        cell_tape = directions[0]
        blocks = np.split(cell_tape.gates, len(names), axis=1) if names else []
        for name, block in zip(names, blocks, strict=True):
            values[f"layer{layer}.{name}"] = block[:, :, 0].copy()
        for memory in ("h", "c") if network.spec.cell == "lstm" else ("h",):
            values[f"layer{layer}.{memory}"] = getattr(cell_tape, memory)[1:, :, 0].copy()
    return values


def _labelled(recipe: Recipe) -> LabelledSequences:
    data = recipe_data(recipe)
    if not isinstance(data, LabelledSequences) or not data.test:
        raise ValueError(
            f"recipe: expected classify with a test part, got {recipe.task} on {recipe.data.source}"
        )
    return data


def _trained(recipe: Recipe, data: LabelledSequences) -> tuple[Network, float]:
    problem = make_problem(recipe, data)
    state = start(problem, recipe.train)
    with blas_threads(recipe.train.threads):
        fit(problem, recipe.train, state)
        network = state.network(problem)
        return network, problem.evaluate(network, "test")["accuracy"]
