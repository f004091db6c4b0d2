"""Updates one flat vector of parameters against its gradient, and clips gradients.

It knows no network and no schedule. The caller keeps an optimiser's state, a mapping of arrays. An update
changes the parameters and this mapping in place, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from statewise.models.base import Array, Floats

OptimiserState: TypeAlias = dict[str, Array]

# Entries updated at a time: these blocks of all vectors of an update fit into a core's second-level cache.
_BLOCK = 16_384


class Optimiser(Protocol):
    """Moves parameters against their gradient."""

    def initial(self, parameters: Floats) -> OptimiserState:
        """Returns the state before the first update of parameters [P]."""

    def update(
        self,
        parameters: Floats,
        gradient: Floats,
        state: OptimiserState,
        *,
        learning_rate: float,
        decayed: Floats | None = None,
    ) -> None:
        """Makes one update in place.

        Args:
            parameters: [P].
            gradient: [P].
            state: From `initial`.
            learning_rate: Learning rate of this update.
            decayed: [P], 1 where weight decay applies and 0 elsewhere; None for 1 everywhere.
        """


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Gradient descent with momentum: v = momentum v + g; p = p - lr v.

    Attributes:
        momentum: 0 for plain gradient descent.
    """

    momentum: float = 0.0

    def initial(self, parameters: Floats) -> OptimiserState:
        """Returns velocities of zero."""
        return {"velocity": np.zeros_like(parameters)}

    def update(
        self,
        parameters: Floats,
        gradient: Floats,
        state: OptimiserState,
        *,
        learning_rate: float,
        decayed: Floats | None = None,
    ) -> None:
        """See `Optimiser.update`; this rule has no weight decay."""
        velocity = state["velocity"]
        velocity *= self.momentum
        velocity += gradient
        parameters -= learning_rate * velocity


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """Adam (Kingma & Ba 2015) with decoupled decay (Loshchilov & Hutter 2019).

        m = beta1 m + (1 - beta1) g
        v = beta2 v + (1 - beta2) g^2
        p = p - lr (m / (1 - beta1^k)) / (sqrt(v / (1 - beta2^k)) + epsilon) - lr decay p

    Papers: arXiv:1412.6980 and arXiv:1711.05101.

    Attributes:
        beta1: Decay of the mean gradient.
        beta2: Decay of the mean squared gradient.
        epsilon: Keeps a zero gradient from being divided by zero.
        decay: Weight decay; 0 is Adam.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    decay: float = 0.0

    def initial(self, parameters: Floats) -> OptimiserState:
        """Returns moments of zero, and the number k of updates made."""
        return {
            "mean": np.zeros_like(parameters),
            "square": np.zeros_like(parameters),
            "count": np.zeros((), np.int64),
        }

    def update(
        self,
        parameters: Floats,
        gradient: Floats,
        state: OptimiserState,
        *,
        learning_rate: float,
        decayed: Floats | None = None,
    ) -> None:
        """See `Optimiser.update`."""
        state["count"] += 1
        count = int(state["count"])
        step = learning_rate / (1 - self.beta1**count)
        correction = 1 / np.sqrt(1 - self.beta2**count)
        for block in _blocks(len(parameters)):
            p, g = parameters[block], gradient[block]
            m, v = state["mean"][block], state["square"][block]
            if self.decay:
                p *= 1 - learning_rate * self.decay * (1 if decayed is None else decayed[block])
            m *= self.beta1
            m += (1 - self.beta1) * g
            squared = g * g
            squared *= 1 - self.beta2
            v *= self.beta2
            v += squared
            denominator = np.sqrt(v, out=squared)
            denominator *= float(correction)
            denominator += self.epsilon
            move = np.divide(m, denominator, out=denominator)
            move *= step
            p -= move


def clip_by_norm(gradient: Floats, limit: float) -> float:
    """Scales a gradient [P] in place so that its Euclidean norm is at most `limit` (Pascanu et al. 2013).

    Args:
        gradient: Gradient of all parameters together; its direction is kept.
        limit: The largest norm; 0 or infinity only measures.

    Returns:
        The norm before clipping.
    """
    norm = float(np.sqrt(np.dot(gradient, gradient)))
    if 0 < limit < norm and np.isfinite(norm):
        gradient *= limit / norm
    return norm


def _blocks(size: int) -> Iterator[slice]:
    for start in range(0, size, _BLOCK):
        yield slice(start, min(start + _BLOCK, size))
