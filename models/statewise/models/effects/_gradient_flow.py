"""Measures how far back a gradient reaches: how it vanishes and explodes.

    ds_T/ds_k = product over t = k+1 .. T of ds_t/ds_{t-1}

s is the state of a cell: h, or (h, c) for the LSTM. If the factors shrink vectors, the product vanishes; if
they stretch vectors, it explodes (Hochreiter 1991; Bengio et al. 1994; Pascanu et al. 2013).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from statewise.models.base import Array, Floats
from statewise.models.effects._steps import backward_steps, forward_steps
from statewise.models.networks import CellName, Network, NetworkSpec, Parameters
from statewise.models.optimisation import clip_by_norm


def gradient_norms(network: Network, x: Array, d_final: Floats) -> Floats:
    """Computes the norms of the gradient with respect to the state at every step.

    Args:
        network: One-way.
        x: [T, B, I], or tokens [T, B].
        d_final: Gradient with respect to the last state, [B, S].

    Returns:
        [T + 1], norms over all rows together of the gradients with respect to s_0 to s_T.
    """
    steps = forward_steps([network] * len(x), x)
    _, by_state = backward_steps(steps, d_final)
    return np.array([np.linalg.norm(gradient) for gradient in by_state])


def state_jacobians(network: Network, x: Array) -> Floats:
    """Computes ds_T/ds_k for k = 0 to T, for one sequence.

    Args:
        network: One-way.
        x: [T, I], or tokens [T].

    Returns:
        [T + 1, S, S]; row i of a matrix is the gradient of s_T[i]. The last is the identity.
    """
    S = network.spec.memory_size
    # S equal rows; row i gives the gradient of s_T[i], so one backward pass gives all of them.
    rows = np.repeat(x[:, None], S, axis=1)
    steps = forward_steps([network] * len(x), rows)
    _, by_state = backward_steps(steps, np.eye(S, dtype=network.dtype))
    return np.stack(by_state)


def gradient_terms(network: Network, x: Array, d_final: Floats) -> list[Parameters]:
    """Computes the terms of the sum that backpropagation through time computes, for one sequence.

        d(v s_T)/dW = sum over k of  v ds_T/ds_k d+s_k/dW

    d+ is the explicit derivative, with s_{k-1} held fixed: the contribution of the use of W at step k.

    Args:
        network: One-way.
        x: [T, I], or tokens [T].
        d_final: v, [S].

    Returns:
        T terms, each with respect to all parameters; their sum is the gradient of one backward pass over
        the whole sequence.
    """
    jacobians = state_jacobians(network, x)
    steps = forward_steps([network] * len(x), x[:, None])
    shapes = network.spec.parameter_shapes()
    terms = []
    for k, tape in enumerate(steps.tapes):
        term = Parameters.empty(shapes, network.dtype)
        reaches_k = d_final @ jacobians[k + 1]  # v ds_T/ds_k                       [S]
        network.backward(tape, None, reaches_k[None], gradients=term)
        terms.append(term)
    return terms


@dataclass(frozen=True, kw_only=True)
class GradientFlow:
    """The result of `gradient_flow`.

    Attributes:
        norms: [T + 1], of the gradients with respect to s_0 to s_T; the last is 1.
        parameter_norm: Norm of the gradient with respect to all parameters.
        clipped_norm: Norm of the same gradient after clipping.
        cosine: Of the angle between the gradients before and after clipping; 1, as the direction stays.
    """

    norms: Floats
    parameter_norm: float
    clipped_norm: float
    cosine: float


def gradient_flow(
    cell: CellName,
    *,
    steps: int = 100,
    hidden_size: int = 32,
    gain: float = 1.0,
    activation: str = "tanh",
    clip_norm: float = 1.0,
    seed: int = 0,
) -> GradientFlow:
    """Sends a gradient of norm 1 back through a fresh cell that reads noise.

    Args:
        cell: rnn, lstm or gru.
        steps: T.
        hidden_size: H.
        gain: Scales the orthogonal recurrent weights: below 1 gradients of a plain RNN vanish, well
            above 1 those of a relu RNN explode.
        activation: Activation of the cell, as in `NetworkSpec`.
        clip_norm: Largest norm after clipping.
        seed: Of weights, inputs and the gradient.
    """
    rng = np.random.default_rng(seed)
    spec = NetworkSpec.from_dict(
        {
            "input_size": 4,
            "output_size": 0,
            "cell": cell,
            "hidden_size": hidden_size,
            "activation": activation,
        }
    )
    start = Network.initialise(spec, rng=rng, dtype=np.float64)
    values = {
        name: value * gain if name.endswith(".R") else value for name, value in start.parameters.items()
    }
    network = Network(spec, values)
    x = 0.1 * rng.standard_normal((steps, 1, 4))
    d_final = np.zeros((1, spec.memory_size))
    d_final[0, :hidden_size] = rng.standard_normal(hidden_size)
    d_final /= np.linalg.norm(d_final)
    unrolled = forward_steps([network] * steps, x)
    contributions, by_state = backward_steps(unrolled, d_final)
    gradient = np.sum([part.flat for part in contributions], axis=0)
    clipped = gradient.copy()
    norm = clip_by_norm(clipped, clip_norm)
    clipped_norm = float(np.linalg.norm(clipped))
    return GradientFlow(
        norms=np.array([np.linalg.norm(g) for g in by_state]),
        parameter_norm=norm,
        clipped_norm=clipped_norm,
        cosine=float(gradient @ clipped / (norm * clipped_norm)),
    )
