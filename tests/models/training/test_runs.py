"""Trains into folders that hold a run already, and onto a disk that is full."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statewise.models import (
    CheckpointError,
    Progress,
    RunExists,
    TrainResult,
    load_checkpoint,
    load_recipe,
    save_checkpoint,
    train,
)

QUICK: dict[str, Any] = {"network.hidden_size": 8, "train.epochs": 2, "train.checkpoint_every": 1}


def run(folder: Path, *, options: dict[str, Any] | None = None, **arguments: Any) -> TrainResult:
    return train(load_recipe("tumour", {**QUICK, "data.folds": 0, **(options or {})}), folder, **arguments)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    run(tmp_path)
    before = files(tmp_path)
    with pytest.raises(RunExists) as caught:
        run(tmp_path, seed=5)
    assert str(caught.value) == (
        f"{tmp_path} holds a run that ended after epoch 2 of 2; "
        "resume it, overwrite it, or train into another folder"
    )
    assert files(tmp_path) == before
    with pytest.raises(ValueError, match="expected resume or overwrite, got both"):
        run(tmp_path, resume=True, overwrite=True)
    run(tmp_path, seed=5, overwrite=True)
    assert load_checkpoint(tmp_path).seed == 5


def test_an_interrupted_run_is_not_replaced_either(tmp_path: Path) -> None:
    class InterruptedError(Exception):
        pass

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(tmp_path, on_progress=interrupt)
    with pytest.raises(RunExists, match="holds a run that stopped after epoch 1 of 2; resume it"):
        run(tmp_path)
    run(tmp_path, resume=True)
    assert load_checkpoint(tmp_path).progress["epoch"] == 2


def test_epochs_can_be_added(tmp_path: Path) -> None:
    constant = {"train.schedule": "constant", "train.input_noise": 0.1}
    run(tmp_path / "at once", options={**constant, "train.epochs": 4})
    run(tmp_path / "added", options=constant)
    trained: list[int] = []
    more = {**constant, "train.epochs": 4, "train.checkpoint_every": 3}
    run(tmp_path / "added", options=more, resume=True, on_progress=lambda now: trained.append(now.epoch))

    assert set(trained) == {3, 4}
    once, added = load_checkpoint(tmp_path / "at once"), load_checkpoint(tmp_path / "added")
    np.testing.assert_array_equal(once.network.parameters.flat, added.network.parameters.flat)
    assert once.metrics == added.metrics
    lines = (tmp_path / "at once/metrics.jsonl").read_text()
    assert (tmp_path / "added/metrics.jsonl").read_text() == lines

    with pytest.raises(
        CheckpointError, match=r"train.epochs = 3: expected 4, as the checkpoint was made with"
    ):
        run(tmp_path / "added", options={**constant, "train.epochs": 3}, resume=True)


def test_a_run_that_stopped_early_needs_more_patience(tmp_path: Path) -> None:
    options = {
        "train.epochs": 60,
        "train.patience": 1,
        "data.validation_fraction": 0.3,
        "train.learning_rate": 0.3,
    }
    run(tmp_path, options=options)
    reached = load_checkpoint(tmp_path).progress["epoch"]
    assert reached < 60
    with pytest.raises(RunExists, match=f"ended after epoch {reached} of 60"):
        run(tmp_path, options=options)
    longer = {**options, "train.epochs": 61}
    with pytest.raises(
        CheckpointError, match=rf"early, after epoch {reached}: more epochs need a train.patience"
    ):
        run(tmp_path, options=longer, resume=True)
    run(tmp_path, options={**options, "train.patience": 3}, resume=True)
    assert load_checkpoint(tmp_path).progress["epoch"] > reached


def test_a_run_of_before_a_key_was_added_resumes(tmp_path: Path) -> None:
    run(tmp_path)
    trained = load_checkpoint(tmp_path)
    recipe = json.loads(json.dumps(trained.progress["recipe"]))
    del recipe["data"]["missing"], recipe["data"]["columns"]
    trained.progress["recipe"] = recipe
    save_checkpoint(trained, tmp_path)
    run(tmp_path, options={"train.epochs": 3}, resume=True)
    assert load_checkpoint(tmp_path).progress["epoch"] == 3


def test_damaged_files_of_a_run_are_told_or_left_out(tmp_path: Path) -> None:
    run(tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    whole = metrics.read_text()
    metrics.write_text(whole + '{bad}\n{"epoch": 3, "lo')
    run(tmp_path, resume=True)
    assert metrics.read_text() == whole
    (tmp_path / "network.json").unlink()
    with pytest.raises(CheckpointError, match=r"network.json is missing; overwrite the run, or train into"):
        run(tmp_path)
    run(tmp_path, overwrite=True)


FULL = """
import resource, sys
from statewise.models import load_recipe, train
bytes_left = int(sys.argv[2])
def fill(progress):
    if progress.epoch == 2:  # no file may grow beyond this, as on a disk without space
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, bytes_left))
options = {"network.hidden_size": 8, "train.epochs": 3, "train.checkpoint_every": 1, "data.folds": 0}
try:
    train(load_recipe("tumour", options), sys.argv[1], on_progress=fill)
except OSError as error:
    print(error.filename)
"""


@pytest.mark.parametrize(("bytes_left", "fails"), [(2000, "checkpoint.npz"), (70, "metrics.jsonl")])
def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, bytes_left: int, fails: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(bytes_left)], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == (f"{tmp_path / fails}\n", "")
    assert sorted(files(tmp_path)) == ["checkpoint.npz", "metrics.jsonl", "network.json"]
    assert load_checkpoint(tmp_path).progress["epoch"] == 1

    run(tmp_path, options={"train.epochs": 3}, resume=True)
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3]
