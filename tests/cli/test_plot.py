"""Checks that `statewise plot` writes pictures, and that they show the numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.cli.command import statewise

from statewise.cli._plot import draw_curves, draw_gates, draw_gradients

HEADS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.mark.parametrize(
    ("picture", "kind"),
    [
        (("gates", "vowels", "--sequence", "3"), ".png"),
        (("gates", "gait"), ".png"),
        (("gradients",), ".svg"),
        (("gradients", "vowels"), ".pdf"),
        (("curves", "vowels", "gait"), ".png"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_every_picture_is_written(
    trained: dict[str, Path], tmp_path: Path, picture: tuple[str, ...], kind: str
) -> None:
    output = tmp_path / f"picture{kind}"
    words = [trained.get(word, word) for word in picture]
    done = statewise("plot", *words, "--output", output)
    assert (done.code, done.out) == (0, f"{output}\n"), done.err
    assert output.read_bytes().startswith(HEADS[kind])


def test_json_names_the_picture(trained: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "curves.png"
    done = statewise("plot", "curves", trained["vowels"], "--output", output, "--json")
    assert done.json == {"picture": str(output), "kind": "curves"}


def test_numbers_of_the_users_own_are_read(trained: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("\n".join(",".join(["0.5"] * 9) for _ in range(5)))
    own = ("plot", "gates", trained["gait"], "--input", tmp_path / "own.csv")
    assert statewise(*own, "--output", tmp_path / "own.png").code == 0
    (tmp_path / "own.csv").write_text("1,2\n")
    assert "expected lines of 9 numbers; got shape [1, 2]" in statewise(*own).complaint


def test_invalid_arguments_are_reported(trained: dict[str, Path], tmp_path: Path) -> None:
    assert "nowhere" in statewise("plot", "gates", tmp_path / "nowhere").complaint
    assert statewise("plot", "gates", trained["vowels"], "--sequence", "400").code == 2
    assert statewise("plot", "gates", trained["vowels"], "--layer", "1").code == 2
    assert statewise("plot", "gates", trained["vowels"], "--text", "A").code == 2
    assert statewise("plot", "gradients", "--output", tmp_path / "x.gif").code == 2


def test_a_picture_holds_the_numbers_it_was_given() -> None:
    values = {"f": np.linspace(0, 1, 12).reshape(4, 3), "c": np.linspace(-2, 1, 12).reshape(4, 3)}
    figure = draw_gates(values, ["a", "b", "c", "d"])
    forget, memory = (axes.images[0] for axes in figure.axes[:2])
    np.testing.assert_array_equal(forget.get_array(), values["f"].T)
    assert forget.get_clim() == (0, 1)
    assert memory.get_clim() == (-2, 2)

    norms = {"lstm": np.array([0.1, 0.5, 1.0])}
    (line,) = draw_gradients(norms).axes[0].lines
    assert np.asarray(line.get_xydata()).tolist() == [[2, 0.1], [1, 0.5], [0, 1.0]]


def test_curves_are_what_training_wrote(trained: dict[str, Path]) -> None:
    lines = [json.loads(line) for line in (trained["vowels"] / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines]
    figure = draw_curves({"loss": {"vowels": ([1, 2], losses)}})
    assert np.asarray(figure.axes[0].lines[0].get_ydata()).tolist() == losses
