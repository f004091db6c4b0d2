"""Trains a recipe into a folder: loads the data, runs the loop, writes checkpoints and metrics.

It displays nothing; a callback receives every update. A run resumed from its folder ends with the same bits
as one that was never interrupted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from statewise.models.base import TrainingDiverged, blas_threads
from statewise.models.checkpoints import (
    ARRAYS,
    METRICS,
    Checkpoint,
    save_checkpoint,
)
from statewise.models.datasets import BUNDLED, Dataset, LabelledSequences
from statewise.models.problems import Problem, classification, make_problem, recipe_data
from statewise.models.recipes import Recipe
from statewise.models.training._fit import Progress, fit
from statewise.models.training._runs import begin, refuse_existing
from statewise.models.training._state import FitState, finished, start

ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The result of `train`.

    Attributes:
        recipe: Name of the recipe.
        seconds: Wall time of this call.
        metrics: On data that was not trained on: accuracy, rmse with baseline_rmse, bits_per_char with
            baseline_bits_per_char, or phoneme_error_rate.
        checkpoint_dir: The folder, for `load_checkpoint`.
    """

    recipe: str
    seconds: float
    metrics: dict[str, float]
    checkpoint_dir: Path


def train(
    recipe: Recipe,
    out_dir: str | Path,
    *,
    seed: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_progress: ProgressCallback | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainResult:
    """Trains a recipe.

    Args:
        recipe: The recipe to train.
        out_dir: Folder for checkpoint.npz, network.json and metrics.jsonl; created if needed.
        seed: Replaces the recipe's; None keeps that.
        resume: Continue from the folder's checkpoint if there is one. The recipe must be the same, but may
            ask for more epochs; the learning rate then follows the schedule of so many.
        overwrite: Delete the folder's run and start again.
        on_progress: Called after every update.
        clock: Current time in seconds, to measure the duration.

    Raises:
        RecipeError: The recipe does not fit its data.
        RunExists: The folder holds a run, and neither `resume` nor `overwrite` is given.
        CheckpointError: The folder's checkpoint cannot be read, or belongs to another recipe or seed.
        TrainingDiverged: The loss or its gradient is not finite, or the loss has grown 10,000-fold; the last
            good checkpoint is kept.
        OSError: A file cannot be written, as on a full disk; the last checkpoint is kept.
    """
    began = clock()
    recipe = recipe.with_seed(seed)
    folder = Path(out_dir)
    if resume and overwrite:
        raise ValueError("expected resume or overwrite, got both")
    if not (resume or overwrite):
        refuse_existing(folder)
    data, settings = recipe_data(recipe), recipe.train
    problem = make_problem(recipe, data)
    folder.mkdir(parents=True, exist_ok=True)
    state = begin(recipe, problem, folder, resume=resume)

    def store(metrics: dict[str, float]) -> None:
        save_checkpoint(_checkpoint(recipe, problem, state, metrics), folder)

    def on_epoch(reached: FitState, loss: float) -> None:
        line = {"epoch": reached.epoch, "step": reached.epoch * problem.batch_count, "loss": loss}
        _append(folder / METRICS, {**line, **{f"validation_{k}": v for k, v in reached.metrics.items()}})
        if reached.epoch % settings.checkpoint_every == 0 or finished(reached, settings):
            store({})

    with blas_threads(settings.threads):
        try:
            fit(problem, settings, state, on_step=on_progress, on_epoch=on_epoch)
        except TrainingDiverged as error:
            kept = folder if (folder / ARRAYS).exists() else None
            raise TrainingDiverged(error.step, error.loss, error.gradient_norm, kept) from None
        metrics = _final_metrics(recipe, data, problem, state)
    store(metrics)
    return TrainResult(recipe=recipe.name, seconds=clock() - began, metrics=metrics, checkpoint_dir=folder)


def _checkpoint(recipe: Recipe, problem: Problem, state: FitState, metrics: dict[str, float]) -> Checkpoint:
    return Checkpoint(
        network=state.network(problem),
        normalisation=problem.normalisation,
        labels=problem.labels,
        vocabulary=problem.vocabulary,
        recipe=recipe.name,
        seed=recipe.train.seed,
        metrics=metrics,
        progress={
            **state.progress(),
            "recipe": recipe.to_dict(),
            "recipe_file": recipe.source
            if recipe.data.source in BUNDLED
            else str(Path(recipe.source).resolve()),
        },
        arrays=state.arrays(),
    )


def cross_validate(recipe: Recipe, data: LabelledSequences) -> float:
    """Measures the mean accuracy of `data.folds` networks, each on the fold left out of its training."""
    labels = data.train_labels
    rng = np.random.default_rng([recipe.train.seed, 3])
    # Each fold gets the same mixture of classes: cases are shuffled, then dealt class by class.
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    accuracies, sizes = [], []
    for fold in range(recipe.data.folds):
        held = np.sort(order[fold :: recipe.data.folds])
        problem = classification(recipe, data, validation=held)
        settings = replace(recipe.train, patience=0)
        state = start(problem, settings)
        fit(problem, settings, state)
        accuracies.append(problem.evaluate(state.network(problem), "validation")["accuracy"])
        sizes.append(len(held))
    return float(np.average(accuracies, weights=sizes))


def _final_metrics(recipe: Recipe, data: Dataset, problem: Problem, state: FitState) -> dict[str, float]:
    """Returns metrics on the test part, or else by cross-validation, or else on the validation part."""
    if problem.has_test:
        metrics = dict(problem.evaluate(state.network(problem), "test"))
    elif recipe.data.folds > 1 and isinstance(data, LabelledSequences):
        metrics = {"accuracy": cross_validate(recipe, data)}
    elif problem.has_validation:
        metrics = dict(problem.evaluate(state.network(problem), "validation"))
    else:
        metrics = {}
    metrics.pop("loss", None)
    return metrics


def _append(path: Path, line: dict[str, object]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
