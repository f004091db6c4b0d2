"""Decides about the run that a folder holds: refuses, deletes, or continues it with the same bits."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from statewise.models.base import CheckpointError, RunExists
from statewise.models.checkpoints import ARRAYS, METRICS, load_checkpoint, replace_file
from statewise.models.problems import Problem
from statewise.models.recipes import Recipe
from statewise.models.training._state import FitState, finished, start

# Resuming may raise these. Of the others, checkpoint_every alone may differ: no result depends on it.
_MAY_GROW = ("epochs", "patience")


def refuse_existing(folder: Path) -> None:
    """Checks that a folder holds no run.

    Raises:
        RunExists: It holds one.
        CheckpointError: It holds one that cannot be read.
    """
    if not (folder / ARRAYS).exists():
        return
    try:
        checkpoint = load_checkpoint(folder)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; overwrite the run, or train into another folder") from None
    epoch = int(checkpoint.progress.get("epoch", 0))
    epochs = int(checkpoint.progress.get("recipe", {}).get("train", {}).get("epochs", epoch))
    raise RunExists(folder, epoch, epochs, finished=epoch >= epochs or bool(checkpoint.metrics))


def begin(recipe: Recipe, problem: Problem, folder: Path, *, resume: bool) -> FitState:
    """Makes the state to train from: that of the folder's run, or a fresh one, which deletes that run.

    Raises:
        CheckpointError: The folder's checkpoint cannot be read, or belongs to another recipe or seed.
    """
    if resume and (folder / ARRAYS).exists():
        state = _restored_state(recipe, problem, folder)
    else:
        (folder / ARRAYS).unlink(missing_ok=True)
        state = start(problem, recipe.train)
    _keep_lines(folder / METRICS, state.epoch)
    return state


def _restored_state(recipe: Recipe, problem: Problem, folder: Path) -> FitState:
    checkpoint = load_checkpoint(folder)
    stored = _with_defaults(recipe, checkpoint.progress["recipe"])
    wanted = recipe.to_dict()
    was, now = stored["train"], dict(wanted["train"])
    now["checkpoint_every"] = was["checkpoint_every"]
    for key in _MAY_GROW:
        if now[key] > was[key] > 0:
            now[key] = was[key]
    if stored != {**wanted, "train": now}:
        key, expected, given = _first_difference(stored, {**wanted, "train": now})
        raise CheckpointError(
            f"{folder}: {key} = {given!r}: expected {expected!r}, as the checkpoint was made with; "
            "resume with the same recipe, which may ask for more epochs, or train into another folder"
        )
    state = FitState.restored(problem, checkpoint.progress, checkpoint.arrays)
    if recipe.train.epochs > was["epochs"] and finished(state, recipe.train):
        raise CheckpointError(
            f"{folder}: training stopped early, after epoch {state.epoch}: more epochs need a train.patience "
            f"above {recipe.train.patience}"
        )
    return state


def _with_defaults(recipe: Recipe, stored: dict[str, Any]) -> dict[str, Any]:
    """Completes a stored recipe with the defaults of keys that did not exist when it was stored."""
    complete = dict(stored)
    for table in ("data", "network", "train"):
        defaults = {
            item.name: item.default for item in fields(getattr(recipe, table)) if item.default is not MISSING
        }
        complete[table] = {**defaults, **stored[table]}
    complete["data"]["columns"] = list(complete["data"]["columns"])
    return complete


def _first_difference(stored: dict[str, Any], wanted: dict[str, Any]) -> tuple[str, object, object]:
    for key in sorted(set(stored) | set(wanted)):
        was, is_now = stored.get(key), wanted.get(key)
        if isinstance(was, dict) and isinstance(is_now, dict) and was != is_now:
            inner, was_inner, is_inner = _first_difference(was, is_now)
            return f"{key}.{inner}", was_inner, is_inner
        if was != is_now:
            return key, was, is_now
    raise ValueError("expected two recipes that differ")


def _keep_lines(path: Path, epochs: int) -> None:
    """Drops the lines of epochs after the checkpoint, and those that are damaged."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if 0 < _epoch_of(line) <= epochs]
    replace_file(path, "".join(line + "\n" for line in kept).encode())


def _epoch_of(line: str) -> int:
    """Returns the epoch of a line; 0 for one that is damaged."""
    try:
        return int(json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError):
        return 0
