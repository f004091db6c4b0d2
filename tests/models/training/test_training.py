"""Runs short trainings: checks what they reach and write, how they resume, and how they fail."""

import json
from pathlib import Path

import numpy as np
import pytest

from statewise.models import (
    Checkpoint,
    CheckpointError,
    Network,
    NetworkSpec,
    Normalisation,
    Progress,
    RecipeError,
    TrainingDiverged,
    load_checkpoint,
    load_dataset,
    load_recipe,
    save_checkpoint,
    train,
)

QUICK = {"train.epochs": 4, "network.hidden_size": 16, "train.checkpoint_every": 1}


def test_vowels_learns_to_tell_speakers(tmp_path: Path) -> None:
    result = train(load_recipe("vowels", {"train.epochs": 40}), tmp_path)
    # Nine speakers, unevenly many utterances in the test part: guessing the most frequent gives 0.24.
    assert result.metrics["accuracy"] > 0.9
    assert result.recipe == "vowels"

    data, checkpoint = load_dataset("vowels"), load_checkpoint(result.checkpoint_dir)
    lengths = np.array([len(utterance) for utterance in data.test])
    x = np.zeros((lengths.max(), len(lengths), 12), np.float32)
    for row, utterance in enumerate(data.test):
        x[: len(utterance), row] = utterance
    y, _ = checkpoint.predict(x, lengths)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-5)
    assert (y.argmax(axis=1) == data.test_labels).mean() == pytest.approx(result.metrics["accuracy"])
    assert checkpoint.labels == tuple(f"speaker {number}" for number in range(1, 10))


def test_gait_beats_repeating_the_last_sample(tmp_path: Path) -> None:
    result = train(load_recipe("gait", {"train.epochs": 10}), tmp_path)
    assert result.metrics["baseline_rmse"] == pytest.approx(1.162, abs=5e-4)
    assert result.metrics["rmse"] < 0.95

    data, checkpoint = load_dataset("gait"), load_checkpoint(tmp_path)
    y, _ = checkpoint.predict(data.values[:, None])
    error = (y[data.split - 1 : -1, 0] - data.values[data.split :]) / data.values[: data.split].std(axis=0)
    assert np.sqrt(np.mean(error**2)) == pytest.approx(result.metrics["rmse"], rel=1e-4)


def test_one_seed_gives_one_result_and_another_another(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(load_recipe("vowels", QUICK), tmp_path / name, seed=seed)
    a, b, c = (load_checkpoint(tmp_path / name).network.parameters.flat for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("name", ["vowels", "gait"])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, optimiser: str, tmp_path: Path) -> None:
    options = {
        **QUICK,
        "train.optimiser": optimiser,
        "train.dropout": 0.2,
        "data.validation_fraction": 0.2,
        "train.patience": 3,
    }
    recipe = load_recipe(name, options)
    train(recipe, tmp_path / "whole")

    class InterruptedError(Exception):
        pass

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 3 and progress.step % 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(recipe, tmp_path / "parts", on_progress=interrupt)
    steps = []
    train(recipe, tmp_path / "parts", resume=True, on_progress=lambda progress: steps.append(progress.epoch))
    assert set(steps) == {3, 4}

    whole, parts = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "parts")
    np.testing.assert_array_equal(whole.network.parameters.flat, parts.network.parameters.flat)
    assert whole.metrics == parts.metrics
    for key, value in whole.arrays.items():
        np.testing.assert_array_equal(value, parts.arrays[key])
    assert (tmp_path / "whole/metrics.jsonl").read_text() == (tmp_path / "parts/metrics.jsonl").read_text()


def test_metrics_are_a_line_an_epoch(tmp_path: Path) -> None:
    train(load_recipe("vowels", {**QUICK, "data.validation_fraction": 0.3}), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert {"step", "validation_accuracy", "validation_loss"} <= set(lines[0])


def test_early_stopping_keeps_the_best(tmp_path: Path) -> None:
    options = {
        **QUICK,
        "train.epochs": 60,
        "train.learning_rate": 0.05,
        "train.schedule": "constant",
        "train.patience": 3,
        "data.validation_fraction": 0.3,
    }
    train(load_recipe("vowels", options), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["validation_loss"] for line in lines]
    assert len(losses) < 60
    assert len(losses) - 1 - int(np.argmin(losses)) == 3
    checkpoint = load_checkpoint(tmp_path)
    np.testing.assert_array_equal(checkpoint.network.parameters.flat, checkpoint.arrays["best"])
    assert not np.array_equal(checkpoint.arrays["best"], checkpoint.arrays["current"])


def test_resuming_with_another_recipe_is_refused(tmp_path: Path) -> None:
    train(load_recipe("vowels", QUICK), tmp_path)
    with pytest.raises(CheckpointError, match=r"network.hidden_size = 17: expected 16"):
        train(load_recipe("vowels", {**QUICK, "network.hidden_size": 17}), tmp_path, resume=True)


def test_divergence_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    options = {
        **QUICK,
        "train.epochs": 50,
        "train.optimiser": "sgd",
        "train.learning_rate": 50.0,
        "train.clip_norm": 0.0,
        "network.cell": "rnn",
        "network.activation": "relu",
        "train.schedule": "constant",
    }
    recipe = load_recipe("gait", {**options, "train.window": 16})
    with pytest.raises(TrainingDiverged) as caught:
        train(recipe, tmp_path / "at once")
    assert caught.value.checkpoint_dir is None
    assert "diverged at step" in str(caught.value)

    calm = load_recipe(
        "gait", {**options, "train.window": 16, "train.learning_rate": 1e-3, "train.epochs": 1}
    )
    train(calm, tmp_path / "later")
    good = load_checkpoint(tmp_path / "later")
    wild = load_recipe("gait", {**options, "train.window": 16})
    stored = {**good.progress, "recipe": wild.to_dict()}
    save_checkpoint(
        Checkpoint(network=good.network, recipe="gait", progress=stored, arrays=good.arrays),
        tmp_path / "later",
    )
    with pytest.raises(TrainingDiverged) as caught:
        train(wild, tmp_path / "later", resume=True)
    assert caught.value.checkpoint_dir == tmp_path / "later"
    kept = load_checkpoint(tmp_path / "later").network.parameters.flat
    assert np.isfinite(kept).all()


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("gait", {"network.bidirectional": True}, "network.bidirectional = True: expected false"),
        ("gait", {"train.window": 9000}, "train.window = 9000: expected at most"),
        ("names", {"task": "transduce"}, "task = 'transduce': does not fit names, which is Words"),
        ("vowels", {"data.source": "vovels.csv"}, "data.source = 'vovels.csv'"),
        ("vowels", {"network.head": "linear"}, "network.head = 'linear': expected softmax"),
        ("vowels", {"network.call_shape": "one_to_one"}, "network.call_shape = 'one_to_one'"),
    ],
)
def test_recipes_that_do_not_fit_their_data(
    name: str, overrides: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as caught:
        train(load_recipe(name, overrides), tmp_path)
    assert message in str(caught.value)


def test_a_checkpoint_survives_its_folder(tmp_path: Path) -> None:
    spec = NetworkSpec(input_size=2, output_size=2, hidden_size=3)
    network = Network.initialise(spec, rng=np.random.default_rng(0), dtype=np.float64)
    values = np.array([[1.0, 0.1], [2.0, 1e-7], [4.0, 3e9]], np.float32)
    original = Checkpoint(
        network=network,
        normalisation=Normalisation.of_series(values, transform="sqrt"),
        labels=("left", "right"),
        vocabulary={"tokens": ["a", "b"]},
        recipe="mine",
        seed=7,
        metrics={"rmse": 0.5},
    )
    save_checkpoint(original, tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert loaded.network.spec == spec
    assert loaded.network.dtype == np.float64
    np.testing.assert_array_equal(loaded.network.parameters.flat, network.parameters.flat)
    for side in ("input_mean", "input_scale", "output_mean", "output_scale"):
        np.testing.assert_array_equal(
            getattr(loaded.normalisation, side), getattr(original.normalisation, side)
        )
    x = np.abs(np.random.default_rng(1).standard_normal((4, 1, 2))).astype(np.float32)
    np.testing.assert_array_equal(loaded.predict(x)[0], original.predict(x)[0])
    for field in ("labels", "vocabulary", "recipe", "seed", "metrics"):
        assert getattr(loaded, field) == getattr(original, field)


def test_predict_normalises_in_and_out(tmp_path: Path) -> None:
    spec = NetworkSpec(input_size=1, output_size=1, hidden_size=2, residual=True)
    shapes = spec.parameter_shapes()
    silent = Network(spec, {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    checkpoint = Checkpoint(
        network=silent, normalisation=Normalisation.of_series(np.array([[3.0], [7.0]], np.float32))
    )
    # A residual network with a head of zeros repeats its input, in any units.
    y, _ = checkpoint.predict(np.array([[[5.0]], [[9.0]]], np.float32), [2])
    np.testing.assert_allclose(y[:, 0, 0], [5.0, 9.0], rtol=1e-6)
    y, _ = checkpoint.predict(np.array([[[5.0]], [[9.0]]], np.float32), [1])
    assert y[1, 0, 0] == 0


@pytest.mark.parametrize("damage", ["missing", "truncated", "json", "format"])
def test_damaged_checkpoints_are_named(damage: str, tmp_path: Path) -> None:
    network = Network.initialise(NetworkSpec(input_size=1, output_size=1), rng=np.random.default_rng(0))
    save_checkpoint(Checkpoint(network=network), tmp_path)
    arrays, described = tmp_path / "checkpoint.npz", tmp_path / "network.json"
    match damage:
        case "missing":
            arrays.unlink()
        case "truncated":
            arrays.write_bytes(arrays.read_bytes()[:-200])
        case "json":
            described.write_text("{")
        case "format":
            described.write_text(described.read_text().replace("statewise-network/1", "other/9"))
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_checkpoint(tmp_path)
