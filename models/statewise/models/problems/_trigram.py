"""Scores words by an interpolated trigram model (Jelinek & Mercer 1980), the baseline of character models.

    p(w | u v) = a_0 / K + a_1 p(w) + a_2 p(w | v) + a_3 p(w | u v)

The weights a are fitted by expectation maximisation to a tenth of the training words, with counts from the
rest; the final counts are from all training words. Words of the test part are never counted.
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
    """Computes the bits per produced token of a trigram model, counting the end.

    Args:
        train: Token sequences, each from its begin token to the end token.
        test: The same.
        tokens: K, the number of tokens that can be produced.
        rng: Chooses the words that the weights are fitted to.
    """
    order = rng.permutation(len(train))
    tenth = max(1, len(train) // 10)
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
    """Returns the four probabilities of every token of `scored`, [N, 4]."""
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
    # A context without counts gives zeros; the probability under the shorter context replaces them.
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
    """Yields each produced token with the two tokens before it; the begin token counts twice at the start."""
    for word in words:
        padded = [int(word[0]), *(int(token) for token in word)]
        yield from zip(padded, padded[1:], padded[2:], strict=False)
