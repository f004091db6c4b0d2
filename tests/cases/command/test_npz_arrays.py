"""Scores .npz files with arrays of every kind: each is read right, or refused in one clear line."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cases.foreign import import_graph
from tests.cli.command import Server, statewise
from tests.export.foreign_graphs import step_cell
from tests.helpers.arrays import Array

from statewise.client import Client, InvalidInput

pytestmark = pytest.mark.long

RANDOM = np.random.default_rng(0)
ROWS: list[Array] = [RANDOM.standard_normal((steps, 3)).astype(np.float32) for steps in (4, 7, 2)]
CUBE: Array = RANDOM.standard_normal((5, 6, 3)).astype(np.float32)
FLAT: Array = np.concatenate(ROWS)
LENGTHS = np.array([4, 7, 2])
COUNTED = np.arange(90).reshape(5, 6, 3)
BOXED: Array = np.array(ROWS[0].tolist(), object)
RAGGED: Array = np.empty(3, object)
RAGGED[:] = ROWS

READ: dict[str, tuple[Mapping[str, Any], list[Array]]] = {
    "Fortran order": ({"a": np.asfortranarray(ROWS[0]), "b": np.asfortranarray(ROWS[1])}, ROWS[:2]),
    "cube in Fortran order": ({"inputs": np.asfortranarray(CUBE)}, list(CUBE)),
    "flat in Fortran order": ({"inputs": np.asfortranarray(FLAT), "lengths": LENGTHS}, ROWS),
    "big-endian": ({"inputs": CUBE.astype(">f4")}, list(CUBE)),
    "float64": ({"inputs": CUBE.astype(np.float64)}, list(CUBE)),
    "integers": ({"inputs": COUNTED}, list(COUNTED.astype(np.float32))),
    "lengths as floats": ({"inputs": FLAT, "lengths": LENGTHS.astype(float)}, ROWS),
}
"""Arrays, and the sequences that they are."""
TOLD: dict[str, Mapping[str, Any]] = {
    "objects in a row": {"a": ROWS[0], "b": BOXED},
    "ragged inputs": {"inputs": RAGGED},
    "objects as inputs": {"inputs": np.array(CUBE.tolist(), object)},
    "objects as ids": {"inputs": CUBE, "ids": np.array(list("abcde"), object)},
    "objects as lengths": {"inputs": FLAT, "lengths": LENGTHS.astype(object)},
    "texts": {"inputs": np.array([["a", "b", "c"]] * 4)},
    "complex": {"a": ROWS[0].astype(np.complex64)},
    "a single number": {"a": np.float32(3)},
    "structured": {"a": np.zeros(4, [("u", "f4"), ("v", "f4"), ("w", "f4")])},
    "negative lengths": {"inputs": FLAT, "lengths": np.array([4, 12, -3])},
}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of `cell`, which takes [T, 3]."""
    repository = tmp_path_factory.mktemp("arrays") / "models"
    assert import_graph(repository, "cell", step_cell(h="h_in", h2="h_out")).code == 0
    with Server(repository) as server:
        yield server.target


@pytest.fixture(scope="module")
def client(target: str) -> Iterator[Client]:
    with Client(target) as client:
        yield client


def run(target: str, source: Path, output: Path) -> tuple[int, str, list[dict[str, Any]]]:
    """Exit code, stderr and lines of a run of the command."""
    done = statewise("score", "--target", target, "--model", "cell", "--input", source, "--output", output)
    lines = output.read_text().splitlines() if output.exists() else []
    return done.code, done.err, [json.loads(line) for line in lines]


@pytest.mark.parametrize("kind", READ)
def test_it_is_read(target: str, client: Client, tmp_path: Path, kind: str) -> None:
    arrays, rows = READ[kind]
    np.savez(tmp_path / "rows.npz", **arrays)
    code, err, lines = run(target, tmp_path / "rows.npz", tmp_path / "scores.jsonl")
    assert code == 0, err
    scored = list(client.score("cell", tmp_path / "rows.npz"))
    assert len(lines) == len(scored) == len(rows)
    for line, entry, row in zip(lines, scored, rows, strict=True):
        expected = client.predict("cell", row)
        np.testing.assert_allclose(line["outputs"], expected, atol=1e-5)
        assert entry.error is None
        np.testing.assert_allclose(entry.outputs, expected, atol=1e-5)


@pytest.mark.parametrize("kind", TOLD)
def test_it_is_refused_in_one_line(target: str, client: Client, tmp_path: Path, kind: str) -> None:
    np.savez(tmp_path / "rows.npz", **TOLD[kind])
    code, err, lines = run(target, tmp_path / "rows.npz", tmp_path / "scores.jsonl")
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 2, err
    assert code != 0 or any("error" in line for line in lines)
    try:
        errors = [scored.error for scored in client.score("cell", tmp_path / "rows.npz")]
    except InvalidInput:
        return
    assert any(isinstance(error, InvalidInput) for error in errors)


def test_arrays_from_memory(client: Client) -> None:
    expected = client.predict("cell", ROWS[0])
    np.testing.assert_array_equal(client.predict("cell", np.asfortranarray(ROWS[0])), expected)
    (scored,) = client.score("cell", [np.asfortranarray(ROWS[0])])
    assert scored.error is None
    np.testing.assert_allclose(scored.outputs, expected, atol=1e-5)


@pytest.mark.parametrize("value", [RAGGED, BOXED], ids=["ragged", "numbers"])
def test_arrays_of_objects_from_memory_are_read_or_refused(client: Client, value: Array) -> None:
    try:
        found = [client.predict("cell", value)]
    except InvalidInput:
        found = []
    found += [scored.outputs for scored in client.score("cell", [value]) if scored.error is None]
    for outputs in found:
        expected = client.predict("cell", ROWS if value is RAGGED else ROWS[0])
        for output, row in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(output, row, atol=1e-5)
