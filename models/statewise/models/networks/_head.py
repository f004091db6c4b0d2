"""Computes the head V h + c and its gradient, and finds the final outputs among the memories.

It runs no recurrent layer. Arrays are [T, features, B], or [features, B] for one output a sequence.
"""

from __future__ import annotations

import numpy as np

from statewise.models.base import Floats
from statewise.models.networks._losses import sigmoid, softmax
from statewise.models.networks._parameters import Parameters
from statewise.models.networks._spec import NetworkSpec


def head_scores(spec: NetworkSpec, parameters: Parameters, h: Floats, columns: Floats) -> Floats:
    """Computes V h + c, with the residual inputs added.

    Args:
        spec: Spec of the network; it has a head.
        parameters: Parameters of the network.
        h: [T, D*H, B] or [D*H, B].
        columns: The network's inputs, [T, I, B].

    Returns:
        [T, O, B] or [O, B].
    """
    scores: Floats = np.matmul(parameters["head.V"], h)
    scores += parameters["head.c"][:, None]
    if spec.residual:
        scores += columns[:, : spec.output_size]
    return scores


def head_gradient(
    spec: NetworkSpec, parameters: Parameters, h: Floats, d: Floats, gradients: Parameters
) -> Floats:
    """Backpropagates through the head; dV = d h^T and dc = d 1 are written to `gradients`.

    Args:
        spec: Spec of the network.
        parameters: Parameters of the network.
        h: As given to `head_scores`.
        d: Gradient with respect to the scores, [T, O, B] or [O, B].
        gradients: Gradients of the network.

    Returns:
        The gradient with respect to h, V^T d; without a head, d itself.
    """
    if not spec.output_size:
        return d
    rows, columns = _flat(d), _flat(h)
    np.matmul(rows, columns.T, out=gradients["head.V"])
    np.sum(rows, axis=1, out=gradients["head.c"])
    by_h: Floats = np.matmul(parameters["head.V"].T, d)
    return by_h


def activated(spec: NetworkSpec, scores: Floats) -> Floats:
    """Computes outputs [..., O] from scores [..., O]: probabilities for softmax and sigmoid."""
    match spec.head:
        case "softmax":
            return softmax(scores)
        case "sigmoid":
            return sigmoid(scores)
        case _:
            return scores


def final_outputs(spec: NetworkSpec, final: Floats) -> Floats:
    """Returns the top layer's h of each direction, [D*H, B], from the final memories [M, B]."""
    return np.concatenate([final[part] for part in _final_slices(spec)])


def add_final_outputs(spec: NetworkSpec, d_memories: Floats, d: Floats) -> None:
    """Adds gradients of the final outputs, [D*H, B], to those of the final memories, [M, B], in place."""
    H = spec.hidden_size
    for index, part in enumerate(_final_slices(spec)):
        d_memories[part] += d[index * H : (index + 1) * H]


def _final_slices(spec: NetworkSpec) -> list[slice]:
    top = f"layer{spec.layers - 1}."
    return [
        slice(offset, offset + size)
        for name, offset, size in spec.memory_parts()
        if name.startswith(top) and name.endswith(".h")
    ]


def _flat(x: Floats) -> Floats:
    """Flattens [T, N, B] to [N, T*B]; leaves [N, B] as it is."""
    return x if x.ndim == 2 else x.transpose(1, 0, 2).reshape(x.shape[1], -1)
