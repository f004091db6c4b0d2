"""The interpolated trigram model (Jelinek & Mercer 1980), the yardstick for character models.

    p(w | u v) = a_0 / K + a_1 p(w) + a_2 p(w | v) + a_3 p(w | u v)

Counts come from most of the training words, the weights a by expectation maximisation from the rest,
then counts from all of them. No neural network; held-out words are never seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from statewise.models.base import Floats, Integers

_ROUNDS = 50


def trigram_bits(
    train: Sequence[Integers], test: Sequence[Integers], tokens: int, rng: np.random.Generator
) -> float:
    """Bits per produced token of a trigram model, the end counted.

    Args:
        train: Token sequences, each with its begin token in front and the end token behind.
        test: The same.
        tokens: K, how many tokens can be produced.
        rng: For the split that the weights are fitted on.
    """
    order = rng.permutation(len(train))
    tenth = len(train) // 10
    weights = np.full(4, 0.25)
    parts = _parts(
        [train[index] for index in order[tenth:]], [train[index] for index in order[:tenth]], tokens
    )
    for _ in range(_ROUNDS):
        shares = parts * weights
        shares /= shares.sum(axis=1, keepdims=True)
        weights = shares.mean(axis=0)
    return float(-np.log2(_parts(train, test, tokens) @ weights).mean())


def _parts(counted: Sequence[Integers], scored: Sequence[Integers], tokens: int) -> Floats:
    """The four probabilities of every token of `scored`, [N, 4]."""
    counts: Counter[tuple[int, ...]] = Counter()
    totals: Counter[tuple[int, ...]] = Counter()
    for u, v, w in _windows(counted):
        for context in ((), (v,), (u, v)):
            counts[(*context, w)] += 1
            totals[context] += 1
    rows = [
        [1 / tokens] + [counts[(*context, w)] / max(1, totals[context]) for context in ((), (v,), (u, v))]
        for u, v, w in _windows(scored)
    ]
    # A context never seen gives zeros; its weight goes to the shorter one by repeating that one.
    table = np.array(rows)
    for column in (2, 3):
        empty = table[:, column] == 0
        unseen = empty & np.array([totals[c] == 0 for c in _contexts(scored, column - 1)])
        table[unseen, column] = table[unseen, column - 1]
    return table


def _contexts(words: Sequence[Integers], length: int) -> Iterator[tuple[int, ...]]:
    for u, v, _ in _windows(words):
        yield (u, v)[-length:]


def _windows(words: Sequence[Integers]) -> Iterator[tuple[int, int, int]]:
    """Every produced token with the two before it; the begin token stands twice in front."""
    for word in words:
        padded = [int(word[0]), *(int(token) for token in word)]
        yield from zip(padded, padded[1:], padded[2:], strict=False)
