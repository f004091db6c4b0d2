"""Feeding a network its own output: the reference that exported graphs and servers are compared with.

No text and no random generator: tokens in, tokens out, and uniform numbers given from outside. What is
generated is a function of state, last output and numbers, so generating a and then b steps equals
generating a + b, and a row does not depend on the rows beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from statewise.models.base import Array, Floats, Integers
from statewise.models.checkpoints import Checkpoint
from statewise.models.networks import Network

NOTHING = -1


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What a generation gave and left behind.

    Attributes:
        tokens: [N, B], NOTHING where a row had already ended; N may be less than asked for when all end.
        state: [B, S], after everything emitted was consumed; a stop token is emitted but not consumed.
        last: [B, O], the output that the next token would be drawn from.
        alive: [B], rows that neither stopped nor used up what remained.
    """

    tokens: Integers
    state: Floats
    last: Floats
    alive: Array


def generate_tokens(
    network: Network,
    state: Floats,
    last: Floats,
    uniforms: Floats,
    *,
    temperature: npt.ArrayLike = 1.0,
    top_k: npt.ArrayLike = 0,
    stop: int | None = None,
    remaining: npt.ArrayLike | None = None,
) -> Generated:
    """Draw a token from the last output, step on it, and so on.

    Args:
        network: One-way, with an embedding and a softmax head.
        state: [B, S], from `Network.run` over the prompt.
        last: [B, O], the prompt's last output.
        uniforms: [N, B] in [0, 1), one number a token.
        temperature: A number, or one a row; 0 always takes the likeliest token.
        top_k: A number, or one a row: draw from the k likeliest only; 0 for all.
        stop: The token that ends a row.
        remaining: [B], tokens that each row may still emit; None for N.

    Raises:
        ValueError: The network does not read and write tokens.
    """
    if not network.spec.embedding_size or network.spec.head != "softmax" or not network.spec.streamable:
        raise ValueError("network: expected a one-way network with an embedding and a softmax head")
    N, B = uniforms.shape
    left = np.full(B, N) if remaining is None else np.array(remaining)
    state, last = state.copy(), last.copy()
    alive = left > 0
    tokens: list[Integers] = []
    for numbers in uniforms:
        if not alive.any():
            break
        emitted = draw_tokens(last, numbers, temperature=temperature, top_k=top_k)
        tokens.append(np.where(alive, emitted, NOTHING))
        left = left - alive
        goes_on = alive if stop is None else alive & (emitted != stop)
        if goes_on.any():
            y, after = network.run(np.where(goes_on, emitted, 0)[None].astype(np.int32), None, state)
            assert after is not None
            state = np.where(goes_on[:, None], after, state)
            last = np.where(goes_on[:, None], y[0], last)
        alive = goes_on & (left > 0)
    return Generated(
        tokens=np.array(tokens, np.int64).reshape(len(tokens), B), state=state, last=last, alive=alive
    )


def draw_tokens(
    probabilities: Floats, uniforms: Floats, *, temperature: npt.ArrayLike = 1.0, top_k: npt.ArrayLike = 0
) -> Integers:
    """One token a row, by inverting the cumulative distribution.

        w_j = (p_j / max p)^(1 / temperature), 0 beyond the k likeliest
        token = how many cumulative sums of w are at most u times their total

    Args:
        probabilities: [B, O].
        uniforms: [B] in [0, 1).
        temperature: A number, or one a row; 0 always takes the likeliest token, the first of equals.
        top_k: A number, or one a row; 0 for all.

    Returns:
        [B].
    """
    p = np.asarray(probabilities, np.float32)
    B, O = p.shape  # noqa: E741
    heat = np.broadcast_to(np.asarray(temperature, np.float32), (B,))[:, None]
    limit = np.broadcast_to(np.asarray(top_k), (B,))[:, None]
    weights = (p / p.max(axis=1, keepdims=True)) ** (1 / np.where(heat > 0, heat, np.float32(1)))
    # A stable sort keeps the first of equals in front.
    order = np.argsort(-p, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(O), (B, O)), axis=1)
    weights = np.where((limit > 0) & (rank >= limit), np.float32(0), weights)
    sums = np.cumsum(weights, axis=1, dtype=np.float32)
    at = np.asarray(uniforms, np.float32)[:, None] * sums[:, -1:]
    # Rounding may put u * total at the total itself; the last token with any weight is meant then.
    likely = O - 1 - np.argmax(weights[:, ::-1] > 0, axis=1)
    drawn = np.minimum((sums <= at).sum(axis=1), likely)
    tokens: Integers = np.where(heat[:, 0] > 0, drawn, p.argmax(axis=1))
    return tokens


def uniform_numbers(seed: int, position: int, count: int) -> Floats:
    """The numbers of the steps from `position` on: a hash of seed and step (SplitMix64, Steele et al. 2014).

        z = seed + (position + k + 1) * 0x9E3779B97F4A7C15        all modulo 2^64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9
        z = (z ^ z >> 27) * 0x94D049BB133111EB
        number k = ((z ^ z >> 31) >> 40) / 2^24

    Being a function of the step, a number does not depend on how a generation is cut into parts.

    Args:
        seed: 64 bits.
        position: Steps consumed before, from 0.
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


def generate_values(
    checkpoint: Checkpoint, state: Floats, last: Floats, steps: int
) -> tuple[Floats, Floats, Floats]:
    """Let a forecast go on by itself: its last output is emitted and read as the next input.

    Args:
        checkpoint: Of a one-way network with as many outputs as inputs.
        state: [B, S], after the series so far.
        last: [B, O], the output of the series' last step, raw units.
        steps: N.

    Returns:
        The values emitted [N, B, O] in raw units, the state after them, and the output after them.

    Raises:
        ValueError: Outputs are not what the network reads.
    """
    spec = checkpoint.network.spec
    if spec.embedding_size or spec.final or spec.input_size != spec.output_size or not spec.streamable:
        raise ValueError("checkpoint: expected a one-way network whose outputs are its next inputs")
    values = []
    for _ in range(steps):
        values.append(last)
        y, after = checkpoint.predict(last[None], None, state)
        assert after is not None
        last, state = y[0], after
    emitted: Floats = np.array(values, last.dtype).reshape(steps, *last.shape)
    return emitted, state, last
