"""Computes with the training side the tokens that models answer; translates between tokens and text."""

from collections.abc import Sequence

import numpy as np
from tests.helpers.arrays import Array
from tests.helpers.generation import SamplingColumns, oracle_of
from tests.helpers.models.generative import END, LETTERS, READ

X, Y = LETTERS.index("<x>"), LETTERS.index("<y>")


def answer(
    model: str, prompt: Sequence[int], steps: int, *, temperature: float = 1.0, top_k: int = 0, seed: int = 0
) -> list[int]:
    """Tokens that follow a prompt, which includes its condition or begin token."""
    sampling = SamplingColumns(temperature=[temperature], top_k=[top_k], seed=[seed])
    return oracle_of(model).tokens(prompt, steps, sampling, 0)


def spell(tokens: Sequence[int]) -> str:
    """The text of tokens, without the end token."""
    return "".join(LETTERS[token] for token in tokens if token != END)


def tokens_of(source: str) -> Array:
    """The tokens of a text that `speech` reads."""
    return np.array([READ.index(letter) for letter in source])


def find_seed(steps: int, *, ended: bool) -> int:
    """A seed with which `letters` has ended after so many values, or has not."""
    return next(seed for seed in range(1000) if (END in answer("letters", [X], steps, seed=seed)) == ended)
