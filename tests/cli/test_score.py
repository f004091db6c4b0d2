"""Checks `statewise score`: its output and messages, and that being killed never changes the output."""

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from tests.cli.command import Process, started, statewise, wait_for_end, wait_until

from statewise.cli._score import ResultLog
from statewise.client import Client
from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec
from statewise.service.testing import server_in_thread

Array = NDArray[Any]
Expected = dict[str, list[Array | None]]
"""Outputs of each row by model; None for a row that fails."""
Result = tuple[Any, str | None, Any]
"""Id, error and outputs of a row."""

KINDS = (".npz", ".jsonl", ".parquet")
LENGTHS = np.random.default_rng(1).integers(1, 9, size=9000)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with untrained models for [T, 3]: `each` has an output a step, `last` an output a sequence."""
    repository = tmp_path_factory.mktemp("scored")
    shapes: dict[str, Any] = {"each": "many_to_many", "last": "many_to_one"}
    for name, shape in shapes.items():
        spec = NetworkSpec(input_size=3, output_size=2, cell="lstm", hidden_size=4, call_shape=shape)
        network = Network.initialise(spec, rng=np.random.default_rng(1))
        export_checkpoint(Checkpoint(network=network, recipe=name), repository)
    with server_in_thread(repository) as address:
        yield address


@pytest.fixture(scope="module")
def rows() -> list[Array]:
    """9,000 sequences; row 7 holds a NaN."""
    source = np.random.default_rng(2)
    rows = [source.standard_normal((length, 3)).astype(np.float32) for length in LENGTHS]
    rows[7] = rows[7].copy()
    rows[7][0, 0] = np.nan
    return rows


@pytest.fixture(scope="module")
def source(rows: list[Array], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All rows in a .npz."""
    path = tmp_path_factory.mktemp("source") / "rows.npz"
    np.savez(path, inputs=np.concatenate(rows), lengths=LENGTHS, ids=[f"r{i}" for i in range(len(rows))])
    return path


@pytest.fixture
def few(rows: list[Array], tmp_path: Path) -> Path:
    """The first twelve rows in a .jsonl."""
    path = tmp_path / "few.jsonl"
    lines = [{"id": f"r{index}", "inputs": row.tolist()} for index, row in enumerate(rows[:12])]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def expected(target: str, rows: list[Array]) -> Expected:
    """Outputs of the first twelve rows."""
    with Client(target) as client:
        good = [row for index, row in enumerate(rows[:12]) if index != 7]
        outputs = {model: list(client.predict(model, good)) for model in ("each", "last")}
    return {model: [*values[:7], None, *values[7:]] for model, values in outputs.items()}


def read(path: Path) -> list[Result]:
    """Reads every row of a file of results."""
    match path.suffix:
        case ".jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            return [(line["id"], line.get("error"), line.get("outputs")) for line in lines]
        case ".parquet":
            table = pq.read_table(path)
            return list(zip(*(table[name].to_pylist() for name in ("id", "error", "outputs")), strict=True))
        case _:
            with np.load(path) as arrays:
                outputs = arrays["outputs"]
                if "lengths" in arrays:
                    outputs = np.split(outputs, np.cumsum(arrays["lengths"])[:-1])[: len(arrays["ids"])]
                errors = [str(error) or None for error in arrays["errors"]]
                values = [None if error else out for error, out in zip(errors, outputs, strict=True)]
                return list(zip(arrays["ids"].tolist(), errors, values, strict=True))


@pytest.mark.parametrize("model", ["each", "last"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_in_the_output_in_order(
    target: str, few: Path, tmp_path: Path, expected: Expected, model: str, kind: str
) -> None:
    output = tmp_path / f"scores{kind}"

    done = statewise(
        "score", "--target", target, "--model", model, "--input", few, "--output", output, "--json"
    )

    assert done.code == 0, done.err
    assert {key: done.json[key] for key in ("model", "version", "rows", "failed", "resumed_at")} == {
        "model": model, "version": 1, "rows": 12, "failed": 1, "resumed_at": 0,
    }  # fmt: skip
    assert done.err == ""
    found = read(output)
    assert [name for name, _, _ in found] == [f"r{index}" for index in range(12)]
    assert [index for index, (_, error, _) in enumerate(found) if error] == [7]
    assert str(found[7][1]).startswith("InvalidInput: ")
    assert found[7][2] is None
    for (_, _, outputs), wanted in zip(found, expected[model], strict=True):
        if wanted is not None:
            np.testing.assert_array_equal(np.array(outputs, np.float32), wanted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.jsonl", f"scores{kind}"]


def test_without_json_the_words_go_to_stderr(target: str, few: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores.jsonl"
    done = statewise("score", "--target", target, "--model", "last", "--input", few, "--output", output)
    assert (done.code, done.out) == (0, "")
    assert "12 rows, 1 of them failed" in done.err
    assert "\r" not in done.err


@pytest.mark.parametrize("kind", KINDS)
def test_files_without_rows_give_files_without_rows(target: str, tmp_path: Path, kind: str) -> None:
    (tmp_path / "nothing.jsonl").write_text("")
    output = tmp_path / f"scores{kind}"
    done = statewise(
        "score",
        "--target",
        target,
        "--model",
        "each",
        "--input",
        tmp_path / "nothing.jsonl",
        "--output",
        output,
    )
    assert done.code == 0, done.err
    assert read(output) == []


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_all_fail_are_all_there(target: str, tmp_path: Path, kind: str) -> None:
    (tmp_path / "bad.jsonl").write_text('{"inputs": [[1, 2]]}\n{"inputs": 7}\n')
    output = tmp_path / f"scores{kind}"
    done = statewise(
        "score", "--target", target, "--model", "each", "--input", tmp_path / "bad.jsonl", "--output", output
    )
    assert done.code == 0, done.err
    assert [(name, bool(error), outputs) for name, error, outputs in read(output)] == [
        (0, True, None),
        (1, True, None),
    ]


def command(target: str, source: Path, output: Path) -> tuple[str | Path, ...]:
    return ("score", "--target", target, "--model", "each", "--input", source, "--output", output)


def size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def kill_at_random(process: Process, part: Path, moments: random.Random, *, early: bool) -> None:
    """Kills a run within 0.6 s of its start, or within 30 ms after it has written a record."""
    if early:
        wait_for_end(process, moments.uniform(0, 0.6))  # while it starts, or reads the log
    else:
        begun = size(part)
        wait_until(process, lambda: size(part) > begun)
        wait_for_end(process, moments.uniform(0, 0.03))  # the time of a record or two
    process.kill()


@pytest.mark.long
@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for seed, kind in enumerate(KINDS)])
def test_killed_at_random_moments_it_ends_with_the_same_bytes(
    target: str, source: Path, tmp_path: Path, kind: str, seed: int
) -> None:
    whole, output = tmp_path / f"whole{kind}", tmp_path / f"output{kind}"
    part = tmp_path / f"output{kind}.part"
    assert statewise(*command(target, source, whole)).code == 0
    moments = random.Random(seed)

    kills = resumed = 0
    for kill in range(8):
        with started(*command(target, source, output)) as process:
            kill_at_random(process, part, moments, early=kill % 4 == 3)
            _, err = process.communicate(timeout=120)
        resumed += "continuing at row" in err
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
        kills += 1
    else:
        done = statewise(*command(target, source, output))
        assert done.code == 0, done.err
        resumed += "continuing at row" in done.err

    assert kills
    assert resumed
    assert output.read_bytes() == whole.read_bytes()
    assert [name for name, _, _ in read(output)] == [f"r{index}" for index in range(len(LENGTHS))]
    assert not part.exists()


def leave_interrupted(target: str, source: Path, output: Path) -> Path:
    """Kills a run after some records; returns its log."""
    part = output.with_name(output.name + ".part")
    with started(*command(target, source, output)) as process:
        wait_until(process, lambda: size(part) > 10_000)
        process.kill()
        process.communicate()
    assert size(part) > 10_000
    return part


def test_rows_of_a_torn_write_are_scored_again(target: str, source: Path, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.jsonl", tmp_path / "output.jsonl"
    assert statewise(*command(target, source, whole)).code == 0
    part = leave_interrupted(target, source, output)
    part.write_bytes(part.read_bytes()[:-100] + bytes(60))

    assert statewise(*command(target, source, output)).code == 0
    assert output.read_bytes() == whole.read_bytes()


def test_an_interrupted_run_prints_how_to_continue(target: str, source: Path, tmp_path: Path) -> None:
    for number in range(50):  # enough that the run is far from its end
        (tmp_path / f"{number}.npz").symlink_to(source)
    output, part = tmp_path / "output.jsonl", tmp_path / "output.jsonl.part"
    with started(*command(target, tmp_path / "*.npz", output)) as process:
        wait_until(process, lambda: size(part) > 10_000)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert err == "the results so far are kept; the same command continues from there\n"


def test_results_of_another_run_are_not_mixed_in(
    target: str, source: Path, few: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output.npz"
    leave_interrupted(target, source, output)
    run = ("score", "--target", target, "--input", few, "--output", output, "--json")

    assert "another input; --restart discards it" in statewise(*run, "--model", "each").complaint
    assert (
        "another model, digest, input; --restart discards it" in statewise(*run, "--model", "last").complaint
    )

    done = statewise(*run, "--model", "last", "--restart")
    assert (done.json["rows"], done.json["resumed_at"]) == (12, 0)


def test_two_runs_do_not_write_the_same_file(target: str, few: Path, tmp_path: Path) -> None:
    output = tmp_path / "output.npz"
    with ResultLog(tmp_path / "output.npz.part"):
        run = ("score", "--target", target, "--model", "last", "--input", few, "--output", output)
        assert "another run is writing" in statewise(*run).complaint


def test_mistakes_are_one_line(target: str, few: Path, tmp_path: Path) -> None:
    output = tmp_path / "output.npz"
    run = ("score", "--target", target, "--output", output)
    assert "nowhere.npz" in statewise(*run, "--model", "last", "--input", "nowhere.npz").complaint
    assert "nothing" in statewise(*run, "--model", "nothing", "--input", few).complaint
    away = ("score", "--target", "127.0.0.1:1", "--output", output, "--model", "last", "--input", few)
    assert statewise(*away).complaint
    assert statewise(*run[:3], "--output", "x.csv", "--model", "last", "--input", few).code == 2
    lost = statewise(*run[:3], "--output", tmp_path / "no" / "x.npz", "--model", "last", "--input", few)
    assert lost.complaint == f"{tmp_path / 'no' / 'x.npz.part'}: No such file or directory"
    assert [path.name for path in tmp_path.iterdir()] == ["few.jsonl"]


@pytest.mark.parametrize("pattern", ["few.jsonl", "*.jsonl"])
def test_an_input_is_not_replaced(target: str, few: Path, pattern: str) -> None:
    before = few.read_bytes()
    run = ("score", "--target", target, "--model", "last", "--output", few, "--restart")
    refused = statewise(*run, "--input", few.with_name(pattern))
    assert refused.code == 2
    assert "is an input" in " ".join(refused.err.split())
    assert few.read_bytes() == before


def test_input_of_every_kind_gives_the_same_output(
    target: str, few: Path, rows: list[Array], tmp_path: Path
) -> None:
    arrays: dict[str, Any] = {f"r{index}": row for index, row in enumerate(rows[:12])}
    np.savez(tmp_path / "few.npz", **arrays)
    column = pa.array([row.tolist() for row in rows[:12]], pa.list_(pa.list_(pa.float32(), 3)))
    pq.write_table(
        pa.table({"id": [f"r{index}" for index in range(12)], "inputs": column}), tmp_path / "few.parquet"
    )
    outputs = set()
    for kind in KINDS:
        output = tmp_path / f"from{kind}.jsonl"
        done = statewise(
            "score",
            "--target",
            target,
            "--model",
            "last",
            "--input",
            tmp_path / f"few{kind}",
            "--output",
            output,
        )
        assert done.code == 0, done.err
        outputs.add(output.read_bytes())
    assert len(outputs) == 1


@pytest.fixture(scope="module")
def server(untrained: Path) -> Iterator[str]:
    """A server with an untrained `g2p`."""
    with server_in_thread(untrained) as address:
        yield address


class TestEncoderDecoder:
    """Inputs and outputs of different lengths, as texts and as tokens."""

    WORDS = ("hello", "memory", "state7", "wise")  # the vocabulary has no 7

    def score(self, server: str, source: Path, output: Path) -> tuple[int, list[Result]]:
        run = ("score", "--target", server, "--model", "g2p", "--input", source, "--output", output, "--json")
        done = statewise(*run)
        assert done.code == 0, done.err
        return done.json["failed"], read(output)

    @pytest.mark.parametrize("kind", KINDS)
    def test_texts(self, server: str, tmp_path: Path, kind: str) -> None:
        lines = [{"id": word, "inputs": word} for word in self.WORDS]
        (tmp_path / "words.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        failed, found = self.score(server, tmp_path / "words.jsonl", tmp_path / f"sounds{kind}")
        assert failed == 1
        assert [name for name, _, _ in found] == list(self.WORDS)
        assert "got '7'" in str(found[2][1])
        with Client(server) as client:
            expected = client.predict("g2p", ["hello", "memory", "wise"])
        assert [sounds for _, error, sounds in found if not error] == expected

    @pytest.mark.parametrize("kind", KINDS)
    def test_tokens(self, server: str, tmp_path: Path, kind: str) -> None:
        rows = [np.array([ord(letter) - ord("a") + 1 for letter in word]) for word in ("hello", "wise")]
        lines = [{"inputs": row.tolist()} for row in rows]
        (tmp_path / "tokens.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        failed, found = self.score(server, tmp_path / "tokens.jsonl", tmp_path / f"sounds{kind}")
        assert failed == 0
        with Client(server) as client:
            for (_, _, sounds), expected in zip(found, client.predict("g2p", rows), strict=True):
                np.testing.assert_array_equal(sounds, expected)
