"""Scores .csv files and rows that fail, predicts from tensors and frames, and trains onto a finished run."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cases.foreign import import_graph
from tests.cli.command import Finished, Server, statewise
from tests.export.foreign_graphs import step_cell
from tests.helpers.arrays import Array

from statewise.client import Client, InvalidInput

pytestmark = pytest.mark.long

DATA: Array = (np.random.default_rng(0).integers(-16, 16, (6, 3)) / 8).astype(np.float32)
"""Numbers that bfloat16 has, too."""
GOOD = '{"id": "good", "inputs": [[1, 2, 3]]}\n'
BAD = '{"id": "bad", "inputs": [[1, 2]]}\n'
RECIPE = """
task = "forecast"
[data]
source = "s.csv"
[network]
cell = "gru"
hidden_size = 4
[train]
epochs = 1
batch_size = 4
window = 8
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of `cell`, which takes [T, 3]."""
    repository = tmp_path_factory.mktemp("scored") / "models"
    assert import_graph(repository, "cell", step_cell(h="h_in", h2="h_out")).code == 0
    with Server(repository) as server:
        yield server.target


@pytest.fixture(scope="module")
def client(target: str) -> Iterator[Client]:
    with Client(target) as client:
        yield client


def score(target: str, source: Path) -> Finished:
    output = source.with_name("scores.jsonl")
    return statewise("score", "--target", target, "--model", "cell", "--input", source, "--output", output)


def test_a_csv_is_scored(target: str, client: Client, tmp_path: Path) -> None:
    source = tmp_path / "x.csv"
    source.write_text("a,b,c\n" + "".join(",".join(map(str, row)) + "\n" for row in DATA.tolist()))
    done = score(target, source)
    assert done.code == 0, done.err
    (line,) = (tmp_path / "scores.jsonl").read_text().splitlines()
    np.testing.assert_allclose(json.loads(line)["outputs"], client.predict("cell", DATA), atol=1e-5)
    assert {path.name for path in tmp_path.iterdir()} == {"x.csv", "scores.jsonl"}


def test_a_file_of_another_kind_is_refused_and_nothing_left_behind(target: str, tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("a\tb\tc\n")
    complaint = score(target, tmp_path / "x.tsv").complaint
    for kind in (".jsonl", ".csv", ".npz", ".parquet"):
        assert kind in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["x.tsv"]


@pytest.mark.parametrize(
    ("rows", "code"), [(BAD * 2, 1), (BAD + GOOD, 0), ("", 0)], ids=["all", "half", "none"]
)
def test_the_exit_code_tells_that_every_row_failed(target: str, tmp_path: Path, rows: str, code: int) -> None:
    (tmp_path / "rows.jsonl").write_text(rows)
    done = score(target, tmp_path / "rows.jsonl")
    assert done.code == code, done.err
    assert (tmp_path / "scores.jsonl").read_text().count("\n") == rows.count("\n")


def right_or_refused(client: Client, value: Any) -> None:
    try:
        found = client.predict("cell", value)
    except InvalidInput:
        return
    for output in found if isinstance(value, list) else [found]:
        np.testing.assert_allclose(output, client.predict("cell", DATA), atol=1e-5)


TENSORS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda tensor: tensor,
    "that wants a gradient": lambda tensor: tensor.clone().requires_grad_(),
    "two of them": lambda tensor: [tensor, tensor],
    "of bfloat16": lambda tensor: tensor.bfloat16(),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_of_pytorch_are_right_or_refused(client: Client, kind: str) -> None:
    torch = pytest.importorskip("torch")
    right_or_refused(client, TENSORS[kind](torch.from_numpy(DATA)))


FRAMES: dict[str, Callable[[Any], Any]] = {
    "plain": lambda frame: frame,
    "of texts": lambda frame: frame.astype(str),
    "two of them": lambda frame: [frame, frame],
    "with a column of texts": lambda frame: frame.assign(c="t"),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_of_pandas_are_right_or_refused(client: Client, kind: str) -> None:
    pandas = pytest.importorskip("pandas")
    right_or_refused(client, FRAMES[kind](pandas.DataFrame(DATA, columns=list("abc"))))


def test_frames_of_pandas_are_scored_and_stepped(client: Client) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(DATA, columns=list("abc"))
    expected = client.predict("cell", DATA)
    for scored in client.score("cell", [frame, frame]):
        assert scored.error is None
        np.testing.assert_allclose(scored.outputs, expected, atol=1e-5)
    with client.session("cell") as session:
        np.testing.assert_allclose(session.step(frame.iloc[0]), expected[0], atol=1e-5)


def test_a_finished_run_is_not_trained_onto(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("v\n" + "".join(f"{np.sin(step / 5):.3f}\n" for step in range(300)))
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE)
    assert statewise("train", recipe, "--out", tmp_path / "run").code == 0
    before = (tmp_path / "run" / "checkpoint.npz").read_bytes()
    again = statewise("train", recipe, "--out", tmp_path / "run", "--seed", "5")
    assert "holds a run that ended" in again.complaint
    assert (tmp_path / "run" / "checkpoint.npz").read_bytes() == before
