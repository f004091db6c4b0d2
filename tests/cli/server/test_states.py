"""Checks `statewise states`: the states of sessions in files of every kind, against the client library."""

import csv
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from tests.cli.command import Finished, statewise

from statewise.client import Client, States
from statewise.service.testing import server_in_thread

NAMES = ("ankle", "kn\u00e9e, left", "hip")


@pytest.fixture(scope="module")
def target(repository: Path) -> Iterator[str]:
    with server_in_thread(repository) as address:
        yield address


@pytest.fixture(scope="module")
def expected(target: str) -> Iterator[States]:
    """The states of three sessions at different positions."""
    with Client(target) as client:
        for steps, name in enumerate(NAMES, 4):
            samples = np.random.default_rng(steps).standard_normal((steps, 9)).astype(np.float32)
            client.session("gait", id=name).step(samples)
        yield client.states("gait")


def write(target: str, output: Path, *words: str, stdin: str | bytes | None = None) -> Finished:
    return statewise("states", "gait", "--target", target, "--output", output, *words, stdin=stdin)


def read(path: Path) -> dict[str, tuple[int, NDArray[np.float32]]]:
    """Returns position and state by the session's name."""
    columns: Any
    rows: list[Any]
    match path.suffix:
        case ".parquet":
            table = pq.read_table(path)
            columns = [column.to_pylist() for column in table.columns]
            rows = list(zip(*columns, strict=True))
        case ".csv":
            rows = list(csv.reader(path.read_text().splitlines()))[1:]
        case ".jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            rows = [
                (line["id"], line["position"], *chain.from_iterable(line["state"].values())) for line in lines
            ]
        case _:
            with np.load(path) as arrays:
                assert arrays["states"].dtype == np.float32
                rows = [
                    (*pair, *state)
                    for *pair, state in zip(
                        arrays["ids"].tolist(), arrays["positions"].tolist(), arrays["states"], strict=True
                    )
                ]
    return {row[0]: (int(row[1]), np.array(row[2:], np.float32)) for row in rows}


def names_of_columns(path: Path) -> list[str]:
    match path.suffix:
        case ".parquet":
            return list(pq.read_schema(path).names)[2:]
        case ".csv":
            return next(csv.reader(path.read_text().splitlines()))[2:]
        case ".jsonl":
            state = json.loads(path.read_text().splitlines()[0])["state"]
            return [f"{part}[{number}]" for part, own in state.items() for number in range(len(own))]
        case _:
            with np.load(path) as arrays:
                return list(arrays["columns"].tolist())


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz", ".jsonl"])
def test_files_have_the_bits_of_the_states(
    target: str, expected: States, tmp_path: Path, suffix: str
) -> None:
    output = tmp_path / f"states{suffix}"
    done = write(target, output, "--json")
    assert done.json == {
        "model": "gait",
        "version": 1,
        "output": str(output),
        "rows": 3,
        "columns": len(expected.columns),
        "missing": [],
    }
    found = read(output)
    assert list(found) == list(expected.ids)
    for name, position, state in zip(expected.ids, expected.positions, expected.matrix, strict=True):
        assert found[name][0] == position
        np.testing.assert_array_equal(found[name][1], state)
    assert names_of_columns(output) == list(expected.columns)
    assert [*tmp_path.iterdir()] == [output]


@pytest.mark.usefixtures("expected")
def test_sessions_are_chosen_and_those_that_miss_are_told(target: str, tmp_path: Path) -> None:
    output = tmp_path / "states.npz"
    done = write(target, output, "--ids", "hip", "--ids", "nobody", "--ids", "hip", "--ids", NAMES[1])
    assert (done.code, done.out) == (0, "")
    assert list(read(output)) == ["hip", NAMES[1]]
    assert done.err.startswith("no session of gait/1: nobody\nstates of 2 sessions, ")
    assert write(target, output).complaint == f"{output} exists; --overwrite replaces it"
    done = write(target, output, "--overwrite", "--ids", "-", "--json", stdin="ankle\n\nhip\n")
    assert (done.json["rows"], list(read(output))) == (2, ["ankle", "hip"])


def test_nothing_is_written_where_no_session_is_found(target: str, tmp_path: Path) -> None:
    output = tmp_path / "states.csv"
    done = write(target, output, *(word for name in "dabce" for word in ("--ids", name)))
    assert done.complaint == "no session of gait/1: d, a, b and 2 more"
    assert "expected names on stdin" in write(target, output, "--ids", "-", stdin="\n").err
    assert "expected UTF-8 text" in write(target, output, "--ids", "-", stdin=b"hip\n\xff\n").err
    assert not output.exists()
    done = statewise("states", "vowels", "--target", target, "--output", output)
    assert (done.code, done.err) == (
        0,
        f"states of 0 sessions, {len(output.read_text().split(',')) - 2} numbers each: {output}\n",
    )


def test_what_cannot_be_written_is_told(target: str, tmp_path: Path) -> None:
    assert (
        "statewise models"
        in statewise("states", "nothing", "--target", target, "--output", tmp_path / "x.csv").complaint
    )
    assert write(target, tmp_path / "states.txt").code == 2
    missing = tmp_path / "nowhere"
    assert write(target, missing / "states.csv").complaint.endswith(
        f"there is no folder {missing}; create it, or choose another --output"
    )
    assert statewise("states", "gait", "--target", target).code == 2
    done = write(target, tmp_path / "x.csv", "--ids", "hip", "ankle")
    assert (done.code, "repeat --ids for each word" in done.err, "pattern" in done.err) == (2, True, False)
