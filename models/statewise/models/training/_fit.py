"""Runs the training loop: batches to gradients to updates, epoch after epoch.

It touches no file and no clock; its caller stores and reports.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from statewise.models.base import Floats, TrainingDiverged, Workspace
from statewise.models.networks import Dropout, Network, Parameters
from statewise.models.optimisation import clip_by_norm, learning_rate_factor
from statewise.models.problems import Batch, Problem
from statewise.models.recipes import TrainSettings
from statewise.models.training._state import FitState, finished, make_optimiser

# A loss this many times that of the first batch has diverged, even while it is finite.
_DIVERGED = 1e4


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of training after an update.

    Attributes:
        step: Updates made.
        steps: Updates in all.
        epoch: The epoch of this update, from 1.
        epochs: Epochs in all.
        loss: Loss of this update's batch.
        gradient_norm: Before clipping.
        metrics: On held-out data after the last finished epoch; empty before the first.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    gradient_norm: float
    metrics: dict[str, float]


def fit(
    problem: Problem,
    settings: TrainSettings,
    state: FitState,
    *,
    on_step: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[FitState, float], None] | None = None,
) -> None:
    """Trains until finished, changing `state` in place.

    Args:
        problem: The task with its data.
        settings: The `[train]` table.
        state: From `start`, or restored.
        on_step: Called after each update.
        on_epoch: Called after each epoch with the state and the epoch's mean loss.

    Raises:
        TrainingDiverged: The loss or its gradient is not finite, or the loss has grown 10,000-fold; `state`
            is then unusable.
    """
    parameters = state.parameters
    network = Network(problem.spec, parameters)
    updates = _Updates(problem, settings, network, state)
    steps = settings.epochs * problem.batch_count
    while not finished(state, settings):
        losses = []
        memories: Floats | None = None
        for index, batch in enumerate(problem.batches(state.rng)):
            step = state.epoch * problem.batch_count + index
            loss, norm, memories = updates.make(batch, memories if batch.continues else None, step, steps)
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


class _Updates:
    """Makes updates, reusing its buffers from batch to batch."""

    def __init__(self, problem: Problem, settings: TrainSettings, network: Network, state: FitState) -> None:
        self._problem, self._settings, self._network, self._state = problem, settings, network, state
        self._optimiser = make_optimiser(settings)
        flat = state.parameters.flat
        self._gradients = Parameters.empty(problem.spec.parameter_shapes(), flat.dtype)
        self._decayed = _decayed(state.parameters)
        self._workspace = Workspace()
        self._dropout = Dropout(rate=settings.dropout, rng=state.rng) if settings.dropout else None

    def make(
        self, batch: Batch, memories: Floats | None, step: int, steps: int
    ) -> tuple[float, float, Floats]:
        """Updates the parameters in place by one batch.

        Args:
            batch: From the problem.
            memories: Final memories [B, M] of the batch before; None for the initial state.
            step: Number of the update, from 0.
            steps: Updates in all.

        Returns:
            The loss, the gradient's norm before clipping, and the final memories [B, M].

        Raises:
            TrainingDiverged: The loss or its gradient is not finite, or the loss has grown 10,000-fold.
        """
        settings, state, gradients = self._settings, self._state, self._gradients
        with np.errstate(over="ignore", invalid="ignore"):
            loss, memories = self._problem.learn(
                self._network, batch, memories, gradients, self._workspace, self._dropout
            )
            norm = clip_by_norm(gradients.flat, settings.clip_norm)
        if math.isnan(state.first_loss):
            state.first_loss = loss
        if not (math.isfinite(norm) and loss < _DIVERGED * max(state.first_loss, 1e-3)):
            raise TrainingDiverged(step + 1, loss, norm, None)
        factor = learning_rate_factor(settings.schedule, step, steps, warmup=settings.warmup_steps)
        self._optimiser.update(
            state.parameters.flat,
            gradients.flat,
            state.optimiser,
            learning_rate=settings.learning_rate * factor,
            decayed=self._decayed,
        )
        return loss, norm, memories


def _decayed(parameters: Parameters) -> Floats:
    """Returns 1 for the entries of matrices, 0 for biases, which weight decay spares; [P]."""
    mask = Parameters.empty({name: view.shape for name, view in parameters.items()}, parameters.flat.dtype)
    for view in mask.values():
        view.fill(view.ndim > 1)
    return mask.flat
