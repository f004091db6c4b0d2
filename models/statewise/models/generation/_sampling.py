"""Draws tokens from probabilities with uniform numbers, and hashes a seed to those numbers.

Both results depend on the arguments alone; no random generator is involved. The server, which cannot import
this package, has its own copy; a test compares both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from statewise.models.base import Floats, Integers


def draw_tokens(
    probabilities: Floats, uniforms: Floats, *, temperature: npt.ArrayLike = 1.0, top_k: npt.ArrayLike = 0
) -> Integers:
    """Draws one token a row, by inverting the cumulative distribution.

        w_j = (p_j / max p)^(1 / temperature), 0 beyond the k likeliest
        token = the number of cumulative sums of w that are at most u times their total

    Args:
        probabilities: [B, O].
        uniforms: [B] in [0, 1).
        temperature: A number, or one a row; 0 takes the likeliest token, the first one of equals.
        top_k: A number, or one a row; 0 for all.

    Returns:
        [B].
    """
    p = np.asarray(probabilities, np.float32)
    B, O = p.shape  # noqa: E741
    heat = np.broadcast_to(np.asarray(temperature, np.float32), (B,))[:, None]
    limit = np.broadcast_to(np.asarray(top_k), (B,))[:, None]
    weights = (p / p.max(axis=1, keepdims=True)) ** (1 / np.where(heat > 0, heat, np.float32(1)))
    # A stable sort puts the first of equals first.
    order = np.argsort(-p, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(O), (B, O)), axis=1)
    weights = np.where((limit > 0) & (rank >= limit), np.float32(0), weights)
    sums = np.cumsum(weights, axis=1, dtype=np.float32)
    at = np.asarray(uniforms, np.float32)[:, None] * sums[:, -1:]
    # u * total may round up to the total; the last token with any weight is drawn then.
    likely = O - 1 - np.argmax(weights[:, ::-1] > 0, axis=1)
    drawn = np.minimum((sums <= at).sum(axis=1), likely)
    tokens: Integers = np.where(heat[:, 0] > 0, drawn, p.argmax(axis=1))
    return tokens


def uniform_numbers(seed: int, position: int, count: int) -> Floats:
    """Hashes the seed and each step from `position` on to a uniform number (SplitMix64, Steele et al. 2014).

        z = seed + (position + k + 1) * 0x9E3779B97F4A7C15        all modulo 2^64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9
        z = (z ^ z >> 27) * 0x94D049BB133111EB
        number k = ((z ^ z >> 31) >> 40) / 2^24

    A number depends on its step alone, so a generation cut into parts uses the same numbers.

    Args:
        seed: 64 bits.
        position: The first step, counted from 0.
        count: N.

    Returns:
        [N], float32 in [0, 1).
    """
    steps = np.arange(position + 1, position + count + 1, dtype=np.uint64)
    z = np.array(seed % 2**64, np.uint64) + steps * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    top = (z ^ (z >> np.uint64(31))) >> np.uint64(40)
    numbers: Floats = (top.astype(np.float64) / 2**24).astype(np.float32)
    return numbers
