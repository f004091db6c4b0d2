"""Serves a model whose outputs become NaN or infinite: all that is printed is JSON, and states are told."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from tests.cases.foreign import import_graph, served
from tests.cli.command import Server, statewise
from tests.export.foreign_graphs import make, tensor

from statewise.client import Client

pytestmark = pytest.mark.long

ROWS = """
{"id": "fine", "inputs": [[1, 2], [3, 4]]}
{"id": "infinite", "inputs": [[0, 1], [1, 1]]}
{"id": "no number", "inputs": [[-1, 1], [1, 1]]}
"""


def strict(text: str) -> Any:
    """What a text says by JSON's standard, which has no NaN and no infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} in {text}")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of `log`, whose outputs and state are the sum of the logarithms so far."""
    repository = tmp_path_factory.mktemp("logarithms") / "models"
    foreign = make(
        [
            helper.make_node("Log", ["x"], ["l"]),
            helper.make_node("Add", ["l", "h_in"], ["h_out"]),
            helper.make_node("Identity", ["h_out"], ["y"]),
        ],
        [tensor("x", ["N", 2]), tensor("h_in", ["N", 2])],
        [tensor("y", ["N", 2]), tensor("h_out", ["N", 2])],
    )
    done = import_graph(repository, "log", foreign, "--state", "h_in=h_out")
    assert done.code == 0, done.err
    with Server(repository, "--metrics-listen", "127.0.0.1:0") as server:
        yield server.target


@pytest.fixture(scope="module")
def client(target: str) -> Iterator[Client]:
    with Client(target) as client:
        yield client


def test_it_is_served(client: Client, target: str) -> None:
    assert served(client)["log"].status == "ready"
    (listed,) = strict(statewise("models", "--target", target, "--json").out)["models"]
    assert listed["name"] == "log"


@pytest.mark.parametrize("kind", [".jsonl", ".npz", ".parquet"])
def test_scores_are_json(target: str, tmp_path: Path, kind: str) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    output = tmp_path / f"scores{kind}"
    done = statewise(
        *("score", "--target", target, "--model", "log", "--input", tmp_path / "rows.jsonl"),
        *("--output", output, "--json"),
    )
    assert done.code == 0, done.err
    assert strict(done.out)["rows"] == 3
    if kind == ".jsonl":
        fine, infinite, no_number = (strict(line)["outputs"] for line in output.read_text().splitlines())
        np.testing.assert_allclose(fine, np.log([[1, 2], [3, 8]]), atol=1e-6)
        assert infinite == [[None, 0], [None, 0]]
        assert no_number == [[None, 0], [None, 0]]


def test_what_is_streamed_is_json_and_the_session_is_listed_as_not_finite(target: str) -> None:
    run = ("stream", "--target", target, "--model", "log", "--session", "s1")
    done = statewise(*run, stdin="[1, 2]\n[0, 1]\n[-1, 1]\n[1, 1]\n")
    assert done.code == 0, done.err
    answers = [strict(line) for line in done.out.splitlines()]
    assert [answer[0] for answer in answers] == [0, None, None, None]
    assert all(answer[1] == pytest.approx(np.log(2)) for answer in answers)
    listed = strict(statewise("sessions", "--target", target, "--json").out)
    assert "finite" in json.dumps(listed)
    refused = statewise(*run, stdin="[NaN, 1]\n")
    assert refused.complaint.startswith("line 1: ")


def test_programs_get_the_numbers_as_they_are(client: Client) -> None:
    with client.session("log") as session:
        first = session.step(np.array([0, -1], np.float32))
        assert first[0] == -np.inf
        assert np.isnan(first[1])
        again = session.step(np.array([1, 1], np.float32))
        assert again[0] == -np.inf
        assert np.isnan(again[1])


def test_the_neighbour_of_a_row_that_is_not_finite_is_not_touched(client: Client) -> None:
    rows = [np.array([row], np.float32) for row in ([0, 1], [1, 1])]
    bad, good = client.predict("log", rows)
    assert bad.tolist() == [[-np.inf, 0]]
    assert good.tolist() == [[0, 0]]
