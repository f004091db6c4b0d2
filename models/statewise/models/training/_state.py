"""Holds everything on which the rest of training depends, and converts it to plain values and arrays.

A loop that starts from a stored state continues with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from statewise.models.base import Array, Floats
from statewise.models.networks import Network, Parameters, initial_values
from statewise.models.optimisation import SGD, AdamW, Optimiser, OptimiserState
from statewise.models.problems import Problem
from statewise.models.recipes import TrainSettings


@dataclass(kw_only=True)
class FitState:
    """Everything on which the rest of training depends.

    Attributes:
        parameters: Being trained, in place.
        optimiser: State of the optimiser.
        rng: Source of order, dropout and noise.
        epoch: Epochs finished.
        first_loss: Loss of the first batch; NaN before that.
        best: Parameters [P] with the lowest validation loss; None without early stopping.
        best_loss: Their validation loss.
        best_epoch: The epoch after which they were reached.
        metrics: On held-out data, after the last epoch.
    """

    parameters: Parameters
    optimiser: OptimiserState
    rng: np.random.Generator
    epoch: int = 0
    first_loss: float = math.nan
    best: Floats | None = None
    best_loss: float = math.inf
    best_epoch: int = 0
    metrics: dict[str, float]

    def progress(self) -> dict[str, Any]:
        """Returns the plain values of the state."""
        return {
            "epoch": self.epoch,
            "first_loss": self.first_loss,
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
            "metrics": self.metrics,
            "rng": json.dumps(self.rng.bit_generator.state),
        }

    def arrays(self) -> dict[str, Array]:
        """Returns the arrays of the state; `current` holds the parameters."""
        arrays = {f"optimiser/{name}": value for name, value in self.optimiser.items()}
        arrays["current"] = self.parameters.flat
        if self.best is not None:
            arrays["best"] = self.best
        return arrays

    @classmethod
    def restored(cls, problem: Problem, progress: dict[str, Any], arrays: dict[str, Array]) -> FitState:
        """Returns the inverse of `progress` and `arrays`."""
        rng = np.random.default_rng()
        rng.bit_generator.state = json.loads(progress["rng"])
        return cls(
            parameters=Parameters(problem.spec.parameter_shapes(), arrays["current"]),
            optimiser={
                name.removeprefix("optimiser/"): value
                for name, value in arrays.items()
                if name.startswith("optimiser/")
            },
            rng=rng,
            epoch=progress["epoch"],
            first_loss=progress["first_loss"],
            best=arrays.get("best"),
            best_loss=progress["best_loss"],
            best_epoch=progress["best_epoch"],
            metrics=progress["metrics"],
        )

    def network(self, problem: Problem) -> Network:
        """Returns a copy of the best network, or of the current one without early stopping."""
        flat = self.parameters.flat if self.best is None else self.best
        return Network(problem.spec, Parameters(problem.spec.parameter_shapes(), flat.copy()))


def make_optimiser(settings: TrainSettings) -> Optimiser:
    """Returns the optimiser that a recipe names."""
    match settings.optimiser:
        case "sgd":
            return SGD(momentum=settings.momentum)
        case "adam":
            return AdamW()
        case _:
            return AdamW(decay=settings.weight_decay)


def start(problem: Problem, settings: TrainSettings) -> FitState:
    """Returns the state before the first update. Parameters and order come from separate generators."""
    values = initial_values(problem.spec, np.random.default_rng([settings.seed, 0]))
    parameters = Parameters.of(problem.spec.parameter_shapes(), values, settings.dtype)
    return FitState(
        parameters=parameters,
        optimiser=make_optimiser(settings).initial(parameters.flat),
        rng=np.random.default_rng([settings.seed, 1]),
        metrics={},
    )


def finished(state: FitState, settings: TrainSettings) -> bool:
    """Returns whether all epochs are done, or `patience` epochs brought no better validation loss."""
    waited = settings.patience and state.epoch - state.best_epoch >= settings.patience
    return state.epoch >= settings.epochs or bool(waited)
