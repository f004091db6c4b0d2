"""Trains cells on the adding problem (Hochreiter & Schmidhuber 1997): remember two numbers over many steps.

Each step has a random number and a mark. Two steps are marked, one in either half, and the target is the sum
of their numbers. Always answering 1 gives a mean squared error of 0.167, the variance of the sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from statewise.models.base import Floats
from statewise.models.networks import CellName, Network, NetworkSpec
from statewise.models.problems import Batch, Part, Problem
from statewise.models.recipes import TrainSettings
from statewise.models.training import fit, start

MEAN_SCORE = 1 / 6
_TESTED = 1000


@dataclass(frozen=True, kw_only=True)
class Adding(Problem):
    """The adding problem with new random examples in every batch.

    Attributes:
        steps: T.
        batch_size: Sequences in a batch.
    """

    steps: int
    batch_size: int

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yields `batch_count` batches."""
        for _ in range(self.batch_count):
            x, sums = adding_examples(self.steps, self.batch_size, rng)
            yield Batch(x=x, targets=sums)

    def evaluate(self, network: Network, part: Part) -> Mapping[str, float]:
        """Computes the mean squared error on 1,000 fixed examples."""
        x, sums = adding_examples(self.steps, _TESTED, np.random.default_rng(999))
        error = float(np.mean((network.run(x)[0] - sums) ** 2))
        return {"mean_squared_error": error, "loss": 0.5 * error}


def adding_examples(steps: int, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draws sequences [T, B, 2] of numbers and marks, and the sums [B, 1]."""
    numbers = rng.random((steps, count), dtype=np.float32)
    marks = np.zeros_like(numbers)
    rows = np.arange(count)
    first, second = rng.integers(0, steps // 2, count), rng.integers(steps // 2, steps, count)
    marks[first, rows] = marks[second, rows] = 1
    sums = numbers[first, rows] + numbers[second, rows]
    return np.stack([numbers, marks], axis=2), sums[:, None]


def adding_problem(
    cell: CellName,
    *,
    steps: int = 100,
    updates: int = 2500,
    hidden_size: int = 64,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> float:
    """Trains a cell on the adding problem with Adam and a clip of 1.

    Returns:
        Mean squared error on examples not trained on; 0.167 is the error of answering the mean.
    """
    epochs = 10
    problem = Adding(
        spec=NetworkSpec(
            input_size=2, output_size=1, cell=cell, hidden_size=hidden_size, call_shape="many_to_one"
        ),
        batch_count=-(-updates // epochs),
        has_validation=False,
        has_test=True,
        steps=steps,
        batch_size=batch_size,
    )
    settings = TrainSettings(
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        optimiser="adam",
        learning_rate=learning_rate,
        schedule="constant",
        clip_norm=1.0,
    )
    state = start(problem, settings)
    fit(problem, settings, state)
    return problem.evaluate(state.network(problem), "test")["mean_squared_error"]
