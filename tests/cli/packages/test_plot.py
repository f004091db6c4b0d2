"""Checks that `statewise plot` writes pictures, and that they show the numbers."""

import json
import shutil
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
    (tmp_path / "own.csv").write_text("\ufeff" + ",".join("abcdefghi") + "\n" + ("1," * 8 + "1\n") * 4)
    assert statewise(*own, "--output", tmp_path / "own.png").code == 0
    (tmp_path / "own.csv").write_text("1,2\n")
    assert "expected lines of 9 numbers; got shape [1, 2]" in statewise(*own).complaint


def test_gates_of_a_run_with_own_data_are_drawn(tmp_path: Path) -> None:
    rows = "".join(f"{np.sin(t / 4):.3f},{t % 3},{t // 6},{'ab'[t // 6 % 2]}\n" for t in range(60))
    (tmp_path / "mine.csv").write_text("sine,three,id,label\n" + rows)
    for task, data in (("forecast", 'columns = ["three", "sine"]'), ("classify", 'sequence = "id"')):
        recipe = tmp_path / f"{task}.toml"
        recipe.write_text(
            f'task = "{task}"\n[data]\nsource = "mine.csv"\n{data}\n[network]\nhidden_size = 4\n'
            f"[train]\nepochs = 1\nbatch_size = 2\n" + ("window = 4\n" if task == "forecast" else "")
        )
        assert statewise("train", recipe, "--out", tmp_path / task).code == 0
        done = statewise("plot", "gates", tmp_path / task, "--output", tmp_path / f"{task}.png")
        assert (done.code, done.out) == (0, f"{tmp_path / task}.png\n"), done.err
    (tmp_path / "mine.csv").unlink()
    gone = statewise("plot", "gates", tmp_path / "forecast").complaint
    assert gone.startswith(f"{tmp_path}/forecast.toml: data.source = 'mine.csv': expected a file")
    assert gone.endswith("; --input or --text reads something else")


def test_invalid_arguments_are_reported(trained: dict[str, Path], tmp_path: Path) -> None:
    assert "nowhere" in statewise("plot", "gates", tmp_path / "nowhere").complaint
    assert statewise("plot", "gates", trained["vowels"], "--sequence", "400").code == 2
    assert statewise("plot", "gates", trained["vowels"], "--layer", "1").code == 2
    assert statewise("plot", "gates", trained["vowels"], "--text", "A").code == 2
    assert statewise("plot", "gradients", "--output", tmp_path / "x.gif").code == 2
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "loss": 0.5}\n{bad}\n')
    damaged = statewise("plot", "curves", tmp_path).complaint
    assert damaged.startswith(f"{tmp_path}/metrics.jsonl: line 2: expected the metrics of an epoch")


def test_a_picture_holds_the_numbers_it_was_given() -> None:
    values = {"f": np.linspace(0, 1, 12).reshape(4, 3), "c": np.linspace(-2, 1, 12).reshape(4, 3)}
    figure = draw_gates(values, ["a", "b", "c", "d"], "of mine")
    assert figure.get_suptitle() == "of mine"
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


def test_a_baseline_is_dashed_in_the_panel_of_its_metric() -> None:
    points = {"a": ([1, 2], [0.5, 0.4]), "b": ([1, 2], [0.6, 0.3])}
    baseline = {"b": ([1, 2], [0.9, 0.9])}
    figure = draw_curves({"loss": {"a": points["a"]}, "rmse": points, "baseline_rmse": baseline})
    assert figure.get_suptitle() == "training of a, b"
    loss, rmse = figure.axes
    assert rmse.get_ylabel() == "rmse"
    drawn = {str(line.get_label()): (line.get_linestyle(), line.get_color()) for line in rmse.lines}
    assert drawn == {"a": ("-", "C0"), "b": ("-", "C1"), "b, baseline": ("--", "C1")}
    assert loss.lines[0].get_color() == "C0"


def test_ticks_stand_at_whole_steps_and_gates_are_not_tall() -> None:
    figure = draw_gates({name: np.zeros((4, 3)) for name in "ifogch"}, None)
    width, height = figure.get_size_inches()
    assert height < width
    figure.draw_without_rendering()
    for panel in figure.axes[:6]:
        for axis in (panel.xaxis, panel.yaxis):
            assert all(float(tick).is_integer() for tick in axis.get_majorticklocs())
        assert panel.get_xlim() == (0.5, 4.5)  # steps are numbered from 1


def test_runs_with_one_name_stay_apart(trained: dict[str, Path], tmp_path: Path) -> None:
    first, second = (shutil.copytree(trained["gait"], tmp_path / name / "run") for name in "ab")
    output = tmp_path / "curves.svg"
    assert statewise("plot", "curves", first, second, "--output", output).code == 0
    assert f"<!-- {first} -->" in output.read_text()
    assert f"<!-- {second} -->" in output.read_text()
