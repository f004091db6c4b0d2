"""`statewise score`: what it writes, what it says, and that being killed changes nothing of the output."""

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from statewise.client import Client
from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec
from statewise.service.testing import server_in_thread

KINDS = (".npz", ".jsonl", ".parquet")
LENGTHS = np.random.default_rng(1).integers(1, 9, size=9000)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A server with untrained models: `each` answers every step, `last` a sequence; both take [T, 3]."""
    repository = tmp_path_factory.mktemp("scored")
    for name, shape in (("each", "many_to_many"), ("last", "many_to_one")):
        spec = NetworkSpec(input_size=3, output_size=2, cell="lstm", hidden_size=4, call_shape=shape)
        network = Network.initialise(spec, rng=np.random.default_rng(1))
        export_checkpoint(Checkpoint(network=network, recipe=name), repository)
    with server_in_thread(repository) as address:
        yield address


@pytest.fixture(scope="module")
def rows():
    source = np.random.default_rng(2)
    rows = [source.standard_normal((length, 3)).astype(np.float32) for length in LENGTHS]
    rows[7] = rows[7].copy()
    rows[7][0, 0] = np.nan
    return rows


@pytest.fixture(scope="module")
def source(rows, tmp_path_factory):
    """All of them in a .npz; row 7 holds a NaN."""
    path = tmp_path_factory.mktemp("source") / "rows.npz"
    np.savez(path, inputs=np.concatenate(rows), lengths=LENGTHS, ids=[f"r{i}" for i in range(len(rows))])
    return path


@pytest.fixture
def few(rows, tmp_path):
    """The first twelve, as lines."""
    path = tmp_path / "few.jsonl"
    lines = [{"id": f"r{index}", "inputs": row.tolist()} for index, row in enumerate(rows[:12])]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def expected(target, rows):
    """Outputs of the first twelve by model; None for row 7."""
    with Client(target) as client:
        good = [row for index, row in enumerate(rows[:12]) if index != 7]
        found = {model: client.predict(model, good) for model in ("each", "last")}
    return {model: [*outputs[:7], None, *outputs[7:]] for model, outputs in found.items()}


def read(path):
    """Id, error and outputs of every row of a file of results."""
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
def test_every_row_is_in_the_output_in_order(statewise, target, few, tmp_path, expected, model, kind):
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
    assert found[7][1].startswith("InvalidInput: ")
    assert found[7][2] is None
    for (_, _, outputs), wanted in zip(found, expected[model], strict=True):
        if wanted is not None:
            np.testing.assert_array_equal(np.array(outputs, np.float32), wanted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.jsonl", f"scores{kind}"]


def test_without_json_the_words_go_to_stderr(statewise, target, few, tmp_path):
    output = tmp_path / "scores.jsonl"
    done = statewise("score", "--target", target, "--model", "last", "--input", few, "--output", output)
    assert (done.code, done.out) == (0, "")
    assert "12 rows, 1 of them failed" in done.err
    assert "\r" not in done.err


@pytest.mark.parametrize("kind", KINDS)
def test_files_without_rows_give_files_without_rows(statewise, target, tmp_path, kind):
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
def test_rows_that_all_fail_are_all_there(statewise, target, tmp_path, kind):
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


def command(target, source, output):
    arguments = ["--target", target, "--model", "each", "--input", str(source), "--output", str(output)]
    return [sys.executable, "-m", "statewise.cli", "score", *arguments]


@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for seed, kind in enumerate(KINDS)])
def test_killed_at_random_moments_it_ends_with_the_same_bytes(target, source, tmp_path, kind, seed):
    whole, output = tmp_path / f"whole{kind}", tmp_path / f"output{kind}"
    part = tmp_path / f"output{kind}.part"
    subprocess.run(command(target, source, whole), check=True, capture_output=True, timeout=120)
    moments = random.Random(seed)

    kills = resumed = 0
    for kill in range(8):
        process = subprocess.Popen(command(target, source, output), stderr=subprocess.PIPE, text=True)
        if kill % 4 != 3:
            # Once results are on the disk, the time of a frame or two decides.
            begun = part.stat().st_size if part.exists() else 0
            while process.poll() is None and not (part.exists() and part.stat().st_size > begun):
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.03))
        else:
            time.sleep(moments.uniform(0, 0.6))  # while it starts, or reads what is there
        process.kill()
        _, said = process.communicate(timeout=120)
        resumed += "going on at row" in said
        if process.returncode == 0:
            break
        assert process.returncode == -9, said
        kills += 1
    else:
        done = subprocess.run(command(target, source, output), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        resumed += "going on at row" in done.stderr

    assert kills
    assert resumed
    assert output.read_bytes() == whole.read_bytes()
    assert [name for name, _, _ in read(output)] == [f"r{index}" for index in range(len(LENGTHS))]
    assert not part.exists()


def interrupted(target, source, output):
    """Leaves the part file of a run that was killed."""
    part = output.with_name(output.name + ".part")
    process = subprocess.Popen(command(target, source, output), stderr=subprocess.PIPE)
    while process.poll() is None and not (part.exists() and part.stat().st_size > 10_000):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert part.stat().st_size > 10_000
    return part


def test_what_a_torn_write_left_is_done_again(statewise, target, source, tmp_path):
    whole, output = tmp_path / "whole.jsonl", tmp_path / "output.jsonl"
    subprocess.run(command(target, source, whole), check=True, capture_output=True)
    part = interrupted(target, source, output)
    part.write_bytes(part.read_bytes()[:-100] + bytes(60))

    done = subprocess.run(command(target, source, output), capture_output=True)

    assert done.returncode == 0
    assert output.read_bytes() == whole.read_bytes()


def test_whoever_interrupts_is_told_how_to_go_on(start, target, source, tmp_path):
    for number in range(50):  # so much that it is far from its end
        (tmp_path / f"{number}.npz").symlink_to(source)
    output, part = tmp_path / "output.jsonl", tmp_path / "output.jsonl.part"
    run = ("score", "--target", target, "--model", "each", "--output", output)
    process = start(*run, "--input", tmp_path / "*.npz")
    while process.poll() is None and not (part.exists() and part.stat().st_size > 10_000):
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said == "what is done is kept, the same command goes on from there\n"


def test_results_of_another_run_are_not_mixed_in(statewise, target, source, few, tmp_path):
    output = tmp_path / "output.npz"
    interrupted(target, source, output)
    run = ("score", "--target", target, "--input", few, "--output", output, "--json")

    assert "another input; --restart" in statewise(*run, "--model", "each").complaint
    assert "another model, digest, input; --restart" in statewise(*run, "--model", "last").complaint

    done = statewise(*run, "--model", "last", "--restart")
    assert (done.json["rows"], done.json["resumed_at"]) == (12, 0)


def test_two_runs_do_not_write_the_same_file(statewise, target, few, tmp_path):
    output = tmp_path / "output.npz"
    from statewise.cli._score import ResultLog

    with ResultLog(tmp_path / "output.npz.part"):
        run = ("score", "--target", target, "--model", "last", "--input", few, "--output", output)
        assert "another run is writing" in statewise(*run).complaint


def test_mistakes_are_one_line(statewise, target, few, tmp_path):
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
def test_an_input_is_not_replaced(statewise, target, few, pattern):
    before = few.read_bytes()
    run = ("score", "--target", target, "--model", "last", "--output", few, "--restart")
    refused = statewise(*run, "--input", few.with_name(pattern))
    assert refused.code == 2
    assert "is an input" in " ".join(refused.err.split())
    assert few.read_bytes() == before


def test_input_of_every_kind_gives_the_same_output(statewise, target, few, rows, tmp_path):
    np.savez(tmp_path / "few.npz", **{f"r{index}": row for index, row in enumerate(rows[:12])})
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
def server(untrained):
    """A server with an untrained `g2p`."""
    with server_in_thread(untrained) as address:
        yield address


class TestEncoderDecoder:
    """Texts of one length go in, texts of another come out; tokens give tokens."""

    WORDS = ("hello", "memory", "state7", "wise")  # nobody knows how to pronounce a 7

    def score(self, statewise, server, source, output):
        run = ("score", "--target", server, "--model", "g2p", "--input", source, "--output", output, "--json")
        done = statewise(*run)
        assert done.code == 0, done.err
        return done.json["failed"], read(output)

    @pytest.mark.parametrize("kind", KINDS)
    def test_texts(self, statewise, server, tmp_path, kind):
        lines = [{"id": word, "inputs": word} for word in self.WORDS]
        (tmp_path / "words.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        failed, found = self.score(statewise, server, tmp_path / "words.jsonl", tmp_path / f"sounds{kind}")
        assert failed == 1
        assert [name for name, _, _ in found] == list(self.WORDS)
        assert "got '7'" in found[2][1]
        with Client(server) as client:
            expected = client.predict("g2p", ["hello", "memory", "wise"])
        assert [sounds for _, error, sounds in found if not error] == expected

    @pytest.mark.parametrize("kind", KINDS)
    def test_tokens(self, statewise, server, tmp_path, kind):
        rows = [np.array([ord(letter) - ord("a") + 1 for letter in word]) for word in ("hello", "wise")]
        lines = [{"inputs": row.tolist()} for row in rows]
        (tmp_path / "tokens.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        failed, found = self.score(statewise, server, tmp_path / "tokens.jsonl", tmp_path / f"sounds{kind}")
        assert failed == 0
        with Client(server) as client:
            for (_, _, sounds), expected in zip(found, client.predict("g2p", rows), strict=True):
                np.testing.assert_array_equal(sounds, expected)
