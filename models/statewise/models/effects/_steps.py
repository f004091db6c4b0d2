"""Takes a recurrent network apart into single steps, so that every state and its gradient can be read.

Each step is a forward pass that passes the state on, and a backward pass that passes the state's gradient
back. The results equal those of passes over the whole sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from statewise.models.base import Array, Floats
from statewise.models.networks import Network, NetworkTape, Parameters


@dataclass(frozen=True)
class Steps:
    """A forward pass, step by step.

    Attributes:
        networks: The network of each step: the same one T times, or T untied copies.
        scores: Scores of each step, [B, O].
        states: Before the first and after every step, [B, S]; T + 1 of them.
        tapes: Tape of each step.
    """

    networks: Sequence[Network]
    scores: list[Floats]
    states: list[Floats]
    tapes: list[NetworkTape]


def forward_steps(networks: Sequence[Network], x: Array, state: Floats | None = None) -> Steps:
    """Runs step t of x through networks[t].

    Args:
        networks: T networks of one spec, one-way; the same object T times for a recurrent network.
        x: [T, B, I], or tokens [T, B].
        state: [B, S]; None for the initial state of the first network.

    Raises:
        ValueError: The networks are bidirectional, or not as many as steps.
    """
    if len(networks) != len(x):
        raise ValueError(f"networks: expected {len(x)}, one a step, got {len(networks)}")
    if not networks[0].spec.streamable:
        raise ValueError("networks: expected one-way networks, which can be taken apart into steps")
    spec = networks[0].spec
    states = [np.tile(networks[0].initial_state, (x.shape[1], 1)) if state is None else state]
    scores, tapes = [], []
    for step, (network, inputs) in enumerate(zip(networks, x, strict=True)):
        # The first step is given None as it is, so that a learned initial state gets its gradient.
        before = states[-1] if step else state
        # No shared workspace: every tape must outlive the next step.
        step_scores, after, tape = network.forward(inputs[None], None, before)
        scores.append(step_scores if spec.final else step_scores[0])
        states.append(after)
        tapes.append(tape)
    return Steps(networks, scores, states, tapes)


def backward_steps(
    steps: Steps, d_final: Floats, d_scores: Sequence[Floats | None] | None = None
) -> tuple[list[Parameters], list[Floats]]:
    """Backpropagates through every step.

    Args:
        steps: From `forward_steps`.
        d_final: Gradient with respect to the last state, [B, S].
        d_scores: Gradients with respect to the scores of each step, [B, O]; None for zero.

    Returns:
        For each step the gradient with respect to the parameters, with the state before it held fixed; for
        each of the T + 1 states the gradient with respect to it, [B, S].
    """
    spec = steps.networks[0].spec
    contributions: list[Parameters] = []
    by_state = [d_final]
    for t in reversed(range(len(steps.tapes))):
        d = None if d_scores is None else d_scores[t]
        gradients = Parameters.empty(spec.parameter_shapes(), steps.networks[t].dtype)
        _, d_before = steps.networks[t].backward(
            steps.tapes[t],
            d if d is None or spec.final else d[None],
            by_state[-1],
            gradients=gradients,
        )
        contributions.append(gradients)
        by_state.append(d_before)
    return contributions[::-1], by_state[::-1]
