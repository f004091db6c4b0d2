"""Trains on each kind of a user's own file, and checks that each fault is named in one line."""

from pathlib import Path

import numpy as np
import pytest

from statewise.models import RecipeError, load_checkpoint, load_recipe, train


def recipe(folder: Path, task: str, source: str, extra: str = "") -> Path:
    path = folder / "mine.toml"
    window = "window = 8\n" if task == "forecast" else ""
    path.write_text(
        f'task = "{task}"\n[data]\nsource = "{source}"\n{extra}\n'
        f"[network]\nhidden_size = 8\n[train]\nepochs = 2\nbatch_size = 4\n{window}"
    )
    return path


def test_a_csv_recording(tmp_path: Path) -> None:
    steps = np.arange(200)
    rows = "".join(f"{t},{np.sin(t / 5):.4f},{np.cos(t / 5):.4f}\n" for t in steps)
    (tmp_path / "waves.csv").write_text("time,sine,cosine\n" + rows)
    path = recipe(tmp_path, "forecast", "waves.csv", 'columns = ["cosine", "sine"]')
    result = train(load_recipe(path), tmp_path / "out")
    assert {"rmse", "baseline_rmse"} <= set(result.metrics)
    assert load_checkpoint(tmp_path / "out").labels == ("cosine", "sine")


def test_an_npz_recording(tmp_path: Path) -> None:
    np.savez(tmp_path / "waves.npz", values=np.sin(np.arange(300) / 7))
    result = train(load_recipe(recipe(tmp_path, "forecast", "waves.npz")), tmp_path / "out")
    assert np.isfinite(result.metrics["rmse"])


def test_labelled_csv_with_sequences_of_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        f"{key},{'up' if key % 2 else 'down'},{sign * step + rng.normal() / 10:.3f}\n"
        for key in range(40)
        for sign in [1 if key % 2 else -1]
        for step in range(3 + key % 4)
    ]
    (tmp_path / "ramps.csv").write_text("id,direction,height\n" + "".join(rows))
    path = recipe(tmp_path, "classify", "ramps.csv", 'label = "direction"\nsequence = "id"')
    result = train(load_recipe(path, {"train.epochs": 20}), tmp_path / "out")
    assert result.metrics["accuracy"] == 1.0
    assert load_checkpoint(tmp_path / "out").labels == ("down", "up")


def test_labelled_npz(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    x = rng.standard_normal((40, 5, 2)) + 2 * labels[:, None, None]
    np.savez(tmp_path / "blobs.npz", x=x, label=labels, lengths=2 + np.arange(40) % 4)
    result = train(
        load_recipe(recipe(tmp_path, "classify", "blobs.npz"), {"train.epochs": 20}), tmp_path / "out"
    )
    assert result.metrics["accuracy"] > 0.8


def test_words_and_pairs(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("".join(f"{'ab' * n}c\n" for n in range(1, 20)))
    result = train(load_recipe(recipe(tmp_path, "language", "words.txt")), tmp_path / "words")
    assert {"bits_per_char", "baseline_bits_per_char"} <= set(result.metrics)
    assert load_checkpoint(tmp_path / "words").vocabulary == {
        "tokens": ["<end>", "a", "b", "c", "<word>"],
        "separator": "",
        "case": "lower",
        "unknown": None,
        "begin": 4,
        "end": 0,
        "pad": None,
        "conditions": {},
    }
    (tmp_path / "pairs.txt").write_text("".join(f"{'ab' * n}\t{'X Y ' * n}\n" for n in range(1, 20)))
    result = train(load_recipe(recipe(tmp_path, "transduce", "pairs.txt")), tmp_path / "pairs")
    assert {"phoneme_error_rate", "word_error_rate"} <= set(result.metrics)


@pytest.mark.parametrize(
    ("task", "name", "content", "message"),
    [
        ("forecast", "x.csv", "a,b\n1,2\n3,nan\n", "line 3, b: a value is missing; data.missing can be"),
        ("forecast", "x.csv", "a,b\n1,2\n3,four\n", "line 3, b: expected a number, got 'four'"),
        ("forecast", "x.csv", "a,b\n1,2\n3\n", "line 3: expected 2 values, got 1"),
        ("forecast", "x.csv", "a,b\n", "expected rows below the header"),
        ("forecast", "x.csv", "a\n1\n", "expected at least 2 steps, got 1"),
        ("forecast", "x.xls", "a,b\n", "expected a .csv or .npz file"),
        ("forecast", "x.npz", "no archive", "expected an .npz archive"),
        ("classify", "x.csv", "a,b\n1,2\n3,4\n", "expected a column label, got a, b"),
        ("classify", "x.csv", "a,label\n1,2\n3,2\n", "label: expected at least 2 different labels, got 1"),
        ("language", "x.txt", "\n", "expected at least one line"),
        ("transduce", "x.txt", "a b\n", "line 1: expected source, tab, target, got 'a b'"),
    ],
)
def test_faulty_files_are_named(task: str, name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RecipeError) as caught:
        train(load_recipe(recipe(tmp_path, task, name)), tmp_path / "out")
    assert message in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((4, 3, 2))}, "expected an array label, got x"),
        ({"x": np.zeros((4, 3, 2)), "label": np.zeros(5)}, "got (4, 3, 2) and (5,)"),
        (
            {"x": np.zeros((4, 3, 2)), "label": np.arange(4), "lengths": [0, 1, 2, 3]},
            "lengths: expected whole",
        ),
        (
            {"x": np.full((4, 3, 2), np.inf), "label": np.arange(4)},
            "x: expected finite float32 numbers, got inf at [0, 0, 0]",
        ),
        ({"x": np.full((4, 3, 2), "a"), "label": np.arange(4)}, "x: expected numbers"),
    ],
)
def test_faulty_arrays_are_named(arrays: dict[str, object], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(RecipeError) as caught:
        train(load_recipe(recipe(tmp_path, "classify", "x.npz")), tmp_path / "out")
    assert message in str(caught.value)
