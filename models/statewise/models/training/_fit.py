"""The training loop: batches to gradients to updates, epoch after epoch.

No files and no clock; whoever calls it stores and reports. Everything that the next epoch depends on
is in `FitState`, so a loop that starts from a stored state goes on bit for bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from statewise.models.base import Array, Floats, TrainingDiverged, Workspace
from statewise.models.networks import Dropout, Network, Parameters, initial_values
from statewise.models.optimisation import (
    SGD,
    AdamW,
    Optimiser,
    OptimiserState,
    clip_by_norm,
    learning_rate_factor,
)
from statewise.models.problems import Problem
from statewise.models.recipes import TrainSettings

# A loss this many times that of the first batch has diverged, even while it is finite.
_DIVERGED = 1e4


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training stands, after an update.

    Attributes:
        step: Updates made.
        steps: Updates in all.
        epoch: The epoch this update belongs to, from 1.
        epochs: Epochs in all.
        loss: Of this update's batch.
        gradient_norm: Before clipping.
        metrics: Of the last epoch that was measured on held-out data; empty before.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    gradient_norm: float
    metrics: dict[str, float]


@dataclass(kw_only=True)
class FitState:
    """Everything the rest of training depends on.

    Attributes:
        parameters: Being trained, in place.
        optimiser: What the optimiser remembers.
        rng: Order, dropout, noise.
        epoch: Epochs finished.
        first_loss: Of the first batch; NaN before it.
        best: Parameters [P] with the lowest validation loss, while that is watched.
        best_loss: Theirs.
        best_epoch: When they were seen.
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
        """The part that is plain values."""
        return {
            "epoch": self.epoch,
            "first_loss": self.first_loss,
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
            "metrics": self.metrics,
            "rng": json.dumps(self.rng.bit_generator.state),
        }

    def arrays(self) -> dict[str, Array]:
        """The part that is arrays, besides the parameters."""
        arrays = {f"optimiser/{name}": value for name, value in self.optimiser.items()}
        arrays["current"] = self.parameters.flat
        if self.best is not None:
            arrays["best"] = self.best
        return arrays

    @classmethod
    def restored(cls, problem: Problem, progress: dict[str, Any], arrays: dict[str, Array]) -> FitState:
        """The state that `progress` and `arrays` described."""
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
        """A copy of the best network seen, or of the current one where none is watched."""
        flat = self.parameters.flat if self.best is None else self.best
        return Network(problem.spec, Parameters(problem.spec.parameter_shapes(), flat.copy()))


def make_optimiser(settings: TrainSettings) -> Optimiser:
    """The optimiser that a recipe names."""
    match settings.optimiser:
        case "sgd":
            return SGD(momentum=settings.momentum)
        case "adam":
            return AdamW()
        case _:
            return AdamW(decay=settings.weight_decay)


def start(problem: Problem, settings: TrainSettings) -> FitState:
    """The state before the first update; parameters and order have generators of their own."""
    values = initial_values(problem.spec, np.random.default_rng([settings.seed, 0]))
    parameters = Parameters.of(problem.spec.parameter_shapes(), values, settings.dtype)
    return FitState(
        parameters=parameters,
        optimiser=make_optimiser(settings).initial(parameters.flat),
        rng=np.random.default_rng([settings.seed, 1]),
        metrics={},
    )


def finished(state: FitState, settings: TrainSettings) -> bool:
    """Whether all epochs are done, or validation has not become better for long enough."""
    waited = settings.patience and state.epoch - state.best_epoch >= settings.patience
    return state.epoch >= settings.epochs or bool(waited)


def fit(
    problem: Problem,
    settings: TrainSettings,
    state: FitState,
    *,
    on_step: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[FitState, float], None] | None = None,
) -> None:
    """Train until finished, changing `state` in place.

    Args:
        problem: What to learn.
        settings: How.
        state: From `start`, or restored.
        on_step: Called after each update.
        on_epoch: Called after each epoch with the state and the epoch's mean loss.

    Raises:
        TrainingDiverged: The loss or its gradient left the finite numbers; `state` is then unusable.
    """
    optimiser = make_optimiser(settings)
    parameters = state.parameters
    network = Network(problem.spec, parameters)
    gradients = Parameters.empty(problem.spec.parameter_shapes(), parameters.flat.dtype)
    decayed = _decayed(parameters)
    workspace = Workspace()
    dropout = Dropout(rate=settings.dropout, rng=state.rng) if settings.dropout else None
    steps = settings.epochs * problem.batch_count
    while not finished(state, settings):
        losses = []
        memories: Floats | None = None
        for index, batch in enumerate(problem.batches(state.rng)):
            step = state.epoch * problem.batch_count + index
            with np.errstate(over="ignore", invalid="ignore"):
                loss, memories = problem.learn(
                    network,
                    batch,
                    memories if batch.continues else None,
                    gradients,
                    workspace,
                    dropout,
                )
                norm = clip_by_norm(gradients.flat, settings.clip_norm)
            if math.isnan(state.first_loss):
                state.first_loss = loss
            if not (math.isfinite(norm) and loss < _DIVERGED * max(state.first_loss, 1e-3)):
                raise TrainingDiverged(step + 1, loss, norm, None)
            factor = learning_rate_factor(settings.schedule, step, steps, warmup=settings.warmup_steps)
            optimiser.update(
                parameters.flat,
                gradients.flat,
                state.optimiser,
                learning_rate=settings.learning_rate * factor,
                decayed=decayed,
            )
            losses.append(loss)
            if on_step is not None:
                on_step(
                    Progress(
                        step=step + 1,
                        steps=steps,
                        epoch=state.epoch + 1,
                        epochs=settings.epochs,
                        loss=loss,
                        gradient_norm=norm,
                        metrics=state.metrics,
                    )
                )
        state.epoch += 1
        if problem.has_validation:
            state.metrics = dict(problem.evaluate(network, "validation"))
            if settings.patience and state.metrics["loss"] < state.best_loss:
                state.best, state.best_loss = parameters.flat.copy(), state.metrics["loss"]
                state.best_epoch = state.epoch
        if on_epoch is not None:
            on_epoch(state, float(np.mean(losses)))


def _decayed(parameters: Parameters) -> Floats:
    """1 at the entries of matrices, 0 at biases, which weight decay spares; [P]."""
    mask = Parameters.empty({name: view.shape for name, view in parameters.items()}, parameters.flat.dtype)
    for view in mask.values():
        view.fill(view.ndim > 1)
    return mask.flat
