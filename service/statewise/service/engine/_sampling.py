"""Draws tokens: settings for each row, the uniform numbers, and the draw itself.

Pure NumPy; gives what generate.onnx and the training side give (a test compares them). A number is a function
of seed and time step, a token one of number, probabilities and settings: neither depends on batching or
chunking.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array


@dataclass(frozen=True, slots=True)
class Sampling:
    """How each row draws.

    Attributes:
        temperature: float32 [rows]; 0: the likeliest token.
        top_k: int32 [rows], how many of the likeliest tokens to draw from; 0: from all.
        seed: uint64 [rows].
    """

    temperature: NDArray[np.float32]
    top_k: NDArray[np.int32]
    seed: NDArray[np.uint64]

    @classmethod
    def greedy(cls, rows: int) -> "Sampling":
        """Settings that always take the likeliest token."""
        return cls(np.zeros(rows, np.float32), np.zeros(rows, np.int32), np.zeros(rows, np.uint64))

    def rows(self, chosen: NDArray[np.intp]) -> "Sampling":
        """Returns some of the rows."""
        return Sampling(self.temperature[chosen], self.top_k[chosen], self.seed[chosen])

    @property
    def columns(self) -> Sequence[NDArray[np.uint64]]:
        """Every setting as words, uint64 [rows] each."""
        return self.temperature.view(np.uint32).astype(np.uint64), self.top_k.astype(np.uint64), self.seed


def uniform_numbers(
    seed: NDArray[np.uint64], position: NDArray[np.uint64], count: int
) -> NDArray[np.float32]:
    """Computes uniform numbers of `count` steps from each row's position, float32 [count, rows] in [0, 1).

    SplitMix64 (Steele, Lea and Flood 2014) as a counter hash; all modulo 2^64:

        z = seed + (position + k + 1) * 0x9E3779B97F4A7C15
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9
        z = (z ^ z >> 27) * 0x94D049BB133111EB
        number k = ((z ^ z >> 31) >> 40) / 2^24
    """
    step = np.arange(1, count + 1, dtype=np.uint64)[:, None] + position
    z = seed + step * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    top = (z ^ (z >> np.uint64(31))) >> np.uint64(40)
    return np.asarray(top.astype(np.float32) * np.float32(2**-24))


# A state that a request gives may hold any finite numbers in the place of probabilities.
@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def draw_tokens(
    probabilities: Array,
    numbers: NDArray[np.float32],
    temperature: NDArray[np.float32],
    top_k: NDArray[np.int32],
) -> NDArray[np.intp]:
    """Draws one token a row, by inverting the cumulative distribution.

        w_j = (p_j / max p)^(1 / temperature), 0 beyond the k likeliest; the first of equals is likelier
        token = how many cumulative sums of w are at most number * total

    Args:
        probabilities: [rows, tokens].
        numbers: [rows], in [0, 1).
        temperature: [rows]; 0: the likeliest, the first of equals.
        top_k: [rows]; 0: from all.
    """
    p = np.asarray(probabilities, np.float32)
    cold = temperature <= 0
    if cold.all():
        return np.asarray(p.argmax(axis=1))
    exponent = 1 / np.where(cold, np.float32(1), temperature)[:, None]
    weights = (p / p.max(axis=1, keepdims=True)) ** exponent
    if top_k.any():
        order = np.argsort(-p, axis=1, kind="stable")
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.broadcast_to(np.arange(p.shape[1]), p.shape), axis=1)
        weights[(top_k > 0)[:, None] & (rank >= top_k[:, None])] = 0
    sums = np.cumsum(weights, axis=1, dtype=np.float32)
    # Rounding may put number * total at the total itself; then the last token with any weight is drawn.
    last = p.shape[1] - 1 - np.argmax(weights[:, ::-1] > 0, axis=1)
    drawn = np.minimum((sums <= numbers[:, None] * sums[:, -1:]).sum(axis=1), last)
    return np.asarray(np.where(cold, p.argmax(axis=1), drawn))
