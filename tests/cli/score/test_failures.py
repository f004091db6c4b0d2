"""Checks what `statewise score` does about sequences that fail, and outputs that are not finite."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.cli.score.results import KINDS, read, score, write_lines

from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec
from statewise.service.testing import server_in_thread

GOOD = {"id": "good", "inputs": [[1, 2, 3]]}


def test_lines_that_cannot_be_parsed_fail_in_their_place(target: str, tmp_path: Path) -> None:
    bad = {
        '{"id": "x", "inputs": [[1, 2, 3]': "at column 3",
        "[" * 100_000: "what is no JSON: nested too deeply",
        '{"id": "x", "inputs": ' + "[" * 500 + "1" + "]" * 500 + "}": "",
        '{"id": "\\ud800", "inputs": [[1, 2, 3]]}': "what is no JSON: half of a surrogate pair",
        '{"id": "x", "inputs": "\\ud800"}': "what is no JSON: half of a surrogate pair",
        '{"id": "x", "inputs": [[1, 2]]}': "expected float32 [T, 3]",
        '{"id": "x", "inputs": [[1, 2, 1e999]]}': "",
        '{"id": "x", "inputs": [[1, 2, NaN]]}': "",
        '{"id": "x", "inputs": {"y": 1}}': "",
        "[" + "1," * (17 * 1024 * 1024) + "1]": "expected a line of at most 33,554,432 bytes",
    }
    source = write_lines(tmp_path / "rows.jsonl", GOOD, "", *bad, GOOD)
    done = score(target, "last", "--input", source, "--output", tmp_path / "out.jsonl", "--json")
    assert (done.code, done.json["failed"]) == (0, len(bad)), done.err
    first, *failed, last = read(tmp_path / "out.jsonl")
    assert (first[0], first[1], first[2]) == ("good", None, last[2])
    for number, (words, (_, error, outputs)) in enumerate(zip(bad.values(), failed, strict=True), 3):
        assert outputs is None
        assert f": rows.jsonl, line {number}: " in str(error)
        assert words in str(error)
        assert len(str(error)) < 400


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_whose_rows_all_fail_is_written_and_ends_with_1(target: str, tmp_path: Path, kind: str) -> None:
    source = write_lines(tmp_path / "bad.jsonl", {"inputs": [[1, 2]]}, {"inputs": 7})
    output = tmp_path / f"scores{kind}"
    done = score(target, "each", "--input", source, "--output", output)
    assert (done.code, done.out) == (1, "")
    assert "statewise: every row failed; the first: bad.jsonl, line 1: input " in done.err
    assert [(name, bool(error), outputs) for name, error, outputs in read(output)] == [
        (0, True, None),
        (1, True, None),
    ]


def test_a_run_stops_after_a_number_of_failures_and_continues(target: str, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "rows.jsonl", GOOD, "{", "{", GOOD)
    run = (target, "last", "--input", source, "--output", tmp_path / "out.jsonl", "--json")
    for _ in range(2):  # the second run finds that there have been so many already
        done = score(*run, "--max-failures", "2")
        assert done.code == 1
        assert "2 of 3 rows failed, so the run stops (--max-failures)" in done.err
        assert "3 results are kept, and the same command continues from there" in done.err
    assert not (tmp_path / "out.jsonl").exists()
    report = score(*run).json
    assert (report["rows"], report["failed"], report["resumed_at"]) == (4, 2, 3)


def test_what_stdin_gave_is_not_lost(target: str, tmp_path: Path) -> None:
    lines = json.dumps(GOOD) + "\n{\n" + json.dumps(GOOD) + "\n"
    words = ("--input", "-", "--output", tmp_path / "out.jsonl", "--max-failures", "1")
    done = score(target, "last", *words, stdin=lines)
    kept = tmp_path / "out.interrupted.jsonl"
    assert done.code == 1
    assert f"the results of 2 rows are in {kept}" in done.err
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    assert [name for name, _, _ in read(kept)] == ["good", 1]


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with `huge`, whose outputs are 4e30 times the sum of its inputs, above 0."""
    spec = NetworkSpec(input_size=2, output_size=2, cell="rnn", activation="relu", hidden_size=4)
    large = {"layer0.forward.W": 1.0, "head.V": 1e30}
    shapes = spec.parameter_shapes().items()
    parameters = {name: np.full(shape, large.get(name, 0), np.float32) for name, shape in shapes}
    folder = tmp_path_factory.mktemp("huge")
    network = Network(spec, parameters)
    export_checkpoint(Checkpoint(network=network), folder, name="huge")
    with server_in_thread(folder) as address:
        yield address


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_that_are_not_finite_are_counted_and_null_in_json(
    huge: str, tmp_path: Path, kind: str
) -> None:
    lines = [{"id": "null", "inputs": [[1, 0]]}, {"inputs": [[1, 0], [1e9, 1]]}]
    source = write_lines(tmp_path / "rows.jsonl", *lines)
    output = tmp_path / f"out{kind}"
    done = score(huge, "huge", "--input", source, "--output", output, "--json")
    assert (done.code, done.json["failed"], done.json["not_finite"]) == (0, 0, 2)
    if kind == ".jsonl":
        finite, infinite = map(json.loads, output.read_text().splitlines())
        assert "not_finite" not in finite
        assert infinite["outputs"][1] == [None, None]
        assert infinite["not_finite"] == 2
