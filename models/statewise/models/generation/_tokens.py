"""Generates tokens: draws a token from a network's output, feeds it back, draws the next.

Exported graphs and servers are compared with this code. The result depends only on the state, the last output
and the uniform numbers given. So generating 3 steps and then 4 equals generating 7 at once, and a row does
not depend on the rows beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from statewise.models.base import Array, Floats, Integers
from statewise.models.generation._sampling import draw_tokens
from statewise.models.networks import Network

NOTHING = -1


@dataclass(frozen=True, kw_only=True)
class Generated:
    """Generated tokens and the states after them.

    Attributes:
        tokens: [N, B], NOTHING after a row has ended; N is smaller than requested if all rows end early.
        state: [B, S], after reading all emitted tokens except a stop token, which is never read.
        last: [B, O], the output from which the next token would be drawn.
        alive: [B], True for rows that have neither stopped nor emitted all their tokens.
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
    """Draws a token from the last output, runs the network on it, and repeats.

    Args:
        network: One-way, with an embedding and a softmax head.
        state: [B, S], from `Network.run` over the prompt.
        last: [B, O], the prompt's last output.
        uniforms: [N, B] in [0, 1), one number a token.
        temperature: A number, or one a row; 0 always takes the likeliest token.
        top_k: A number, or one a row: draw from the k likeliest only; 0 for all.
        stop: The token that ends a row.
        remaining: [B], the most tokens that each row may emit; None for N.

    Raises:
        ValueError: The network does not both read and produce tokens.
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
