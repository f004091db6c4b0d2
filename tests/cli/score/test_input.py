"""Checks what `statewise score` reads: files of every kind, several of them, and stdin."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.cli.score.results import KINDS, Array, read, score, write_lines

from statewise.client import Client


def test_input_of_every_kind_gives_the_same_output(
    target: str, few: Path, rows: list[Array], tmp_path: Path
) -> None:
    arrays: dict[str, Any] = {f"r{index}": row for index, row in enumerate(rows[:12])}
    np.savez(tmp_path / "few.npz", **arrays)
    column = pa.array([row.tolist() for row in rows[:12]], pa.list_(pa.list_(pa.float32(), 3)))
    pq.write_table(
        pa.table({"id": [f"r{index}" for index in range(12)], "inputs": column}), tmp_path / "few.parquet"
    )
    lines = few.read_bytes()
    (tmp_path / "few.jsonl.gz").write_bytes(gzip.compress(lines))
    cells = [f"r{index},{a!r},{b!r},{c!r}" for index, row in enumerate(rows[:12]) for a, b, c in row.tolist()]
    (tmp_path / "few.csv").write_text("\n".join(["id,x,y,z", *cells]))
    outputs = []
    for kind in (".jsonl", ".jsonl.gz", ".csv", ".npz", ".parquet"):
        output = tmp_path / f"from{kind}.jsonl"
        done = score(target, "last", "--input", tmp_path / f"few{kind}", "--output", output)
        assert done.code == 0, done.err
        outputs.append([(name, error is None, values) for name, error, values in read(output)])
    output = tmp_path / "from-stdin.jsonl"
    done = score(target, "last", "--input", "-", "--output", output, stdin=lines.decode())
    assert (done.code, done.err.startswith("stdin cannot be read again, so")) == (0, True), done.err
    outputs.append([(name, error is None, values) for name, error, values in read(output)])
    assert outputs[1:] == outputs[:1] * 5


@pytest.mark.parametrize("kind", KINDS)
def test_results_of_several_files_name_the_file(target: str, tmp_path: Path, kind: str) -> None:
    ones = write_lines(tmp_path / "ones.jsonl", {"id": "a", "inputs": [[1, 1, 1]]}, {"inputs": [[1, 1]]})
    twos = write_lines(tmp_path / "twos-1.jsonl", {"id": "a", "inputs": [[2, 2, 2]]})
    output = tmp_path / f"scores{kind}"
    inputs = ("--input", tmp_path / "twos-*.jsonl", "--input", ones)
    done = score(target, "last", *inputs, "--output", output)
    assert done.code == 0, done.err
    files = [str(twos), str(ones), str(ones)]
    match kind:
        case ".npz":
            with np.load(output) as arrays:
                assert arrays["files"].tolist() == files
        case ".parquet":
            assert pq.read_table(output)["file"].to_pylist() == files
        case _:
            assert [json.loads(line)["file"] for line in output.read_text().splitlines()] == files
    found = read(output)
    assert [str(name) for name, _, _ in found] == ["a", "a", "2"]
    assert str(found[2][1]).startswith("InvalidInput: ones.jsonl, line 2: ")
    assert "expected float32 [T, 3]" in str(found[2][1])


def test_a_csv_is_read_as_training_reads_it(target: str, tmp_path: Path) -> None:
    lines = ["\ufeffspeaker,x,time,y,z", "b,1,09:00,2,3", "a,4,09:00,5,6", "", "b,7,09:01,8,9", "a,1,x,?,3"]
    (tmp_path / "steps.csv").write_text("\n".join(lines))
    output = tmp_path / "scores.jsonl"
    layout = ("--sequence", "speaker", "--columns", "z,x,y", "--overwrite")
    done = score(target, "each", "--input", tmp_path / "steps.csv", "--output", output, *layout)
    assert done.code == 0, done.err
    (first, _, outputs), (second, error, _) = read(output)
    assert (first, second) == ("b", "a")
    assert error == "InvalidInput: steps.csv, line 6: y: expected a number; a value is missing: '?'"
    with Client(target) as client:
        wanted = client.predict("each", np.array([[3, 1, 2], [9, 7, 8]], np.float32))
    np.testing.assert_array_equal(np.array(outputs, np.float32), wanted)

    alone = ("--sequence", "", "--columns", "x,y,z", "--overwrite", "--json")
    done = score(target, "each", "--input", tmp_path / "steps.csv", "--output", output, *alone)
    assert (done.json["rows"], done.json["failed"]) == (4, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--input", "a.jsonl", "b.jsonl"), "got b.jsonl; repeat --input for each word, or quote a pattern"),
        (("--input", "-", "--input", "few.jsonl"), "expected - alone"),
        (("--input", "few.jsonl", "--input", "few.jsonl"), "few.jsonl' is named twice"),
        (("--input", "few.jsonl", "--sequence", "id"), "expected a .csv file"),
        (("--input", "few.txt"), "expected a file named .jsonl, .jsonl.gz, .csv, .npz, .parquet; got"),
    ],
)
def test_inputs_that_do_not_fit_are_told(
    target: str, few: Path, words: tuple[str, ...], message: str
) -> None:
    few.with_suffix(".txt").write_text("")
    placed = [few.with_name(word) if word.startswith("few") else word for word in words]
    done = score(target, "last", *placed, "--output", few.with_name("scores.jsonl"))
    assert done.code in {1, 2}
    assert message in " ".join(done.err.replace("│", " ").split())
    assert sorted(path.name for path in few.parent.iterdir()) == ["few.jsonl", "few.txt"]
