"""Measures what a learned initial state is worth, step by step after the beginning of a sequence.

A forecaster of the gait recording is trained on short windows that begin anywhere in a walk, each in the
network's initial state. The state carries no time: what it adds is a guess of what came before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from statewise.models.base import Floats
from statewise.models.datasets import Series, load_dataset
from statewise.models.networks import CellName, Network, NetworkSpec, Normalisation
from statewise.models.problems import Batch, Part, Problem
from statewise.models.recipes import TrainSettings
from statewise.models.training import fit, start

_INPUT_NOISE = 0.3  # as in the recipe


@dataclass(frozen=True, kw_only=True)
class Windows(Problem):
    """Windows of a series, each from the initial state.

    Attributes:
        train: [T, I], normalised; each batch has windows that begin at random steps.
        test: [T, I], normalised; each step begins a window.
        window: Steps of a window.
        batch_size: Windows in a batch.
    """

    train: Floats
    test: Floats
    window: int
    batch_size: int

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yields `batch_count` batches."""
        for _ in range(self.batch_count):
            x, targets = self._windows(
                self.train, rng.integers(0, len(self.train) - self.window, self.batch_size)
            )
            yield Batch(x=x + _INPUT_NOISE * rng.standard_normal(x.shape, dtype=np.float32), targets=targets)

    def evaluate(self, network: Network, part: Part) -> Mapping[str, float]:
        """Computes the root mean square error over all steps."""
        error = float(np.sqrt(np.mean(self.errors(network) ** 2)))
        return {"rmse": error, "loss": 0.5 * error**2}

    def errors(self, network: Network) -> Floats:
        """Computes the root mean square error of each step of the windows, [window]."""
        x, targets = self._windows(self.test, np.arange(len(self.test) - self.window))
        errors: Floats = np.sqrt(np.mean((network.run(x)[0] - targets) ** 2, axis=(1, 2)))
        return errors

    def _windows(
        self, series: Floats, starts: np.ndarray[tuple[int], np.dtype[np.int64]]
    ) -> tuple[Floats, Floats]:
        windows = series[starts + np.arange(self.window + 1)[:, None]]  # [window + 1, B, I]
        return windows[:-1], windows[1:]


def beginning_errors(
    cell: CellName,
    *,
    learned: bool,
    steps: int = 32,
    updates: int = 1500,
    hidden_size: int = 32,
    seed: int = 0,
) -> Floats:
    """Trains a forecaster of gait on windows, with Adam; measures it on the last fifth of the recording.

    Args:
        cell: Its cell.
        learned: Whether it learns its initial state; otherwise windows begin with zeros.
        steps: Steps of a window.
        updates: Updates of 64 windows each.
        hidden_size: Units.
        seed: Of parameters, windows and noise.

    Returns:
        Root mean square error of each step's forecast in standardised units, [steps].
    """
    data = load_dataset("gait")
    assert isinstance(data, Series)
    normalisation = Normalisation.of_series(data.values[: data.split], transform="identity")
    values = normalisation.inputs(data.values)
    epochs = 10
    problem = Windows(
        spec=NetworkSpec(
            input_size=values.shape[1],
            output_size=values.shape[1],
            cell=cell,
            hidden_size=hidden_size,
            learn_initial_state=learned,
        ),
        batch_count=-(-updates // epochs),
        has_validation=False,
        has_test=True,
        train=values[: data.split],
        test=values[data.split :],
        window=steps,
        batch_size=64,
    )
    settings = TrainSettings(seed=seed, epochs=epochs, batch_size=64, optimiser="adam", learning_rate=3e-3)
    state = start(problem, settings)
    fit(problem, settings, state)
    return problem.errors(state.network(problem))
