"""Checks that being killed never changes the output of `statewise score`, and what it never overwrites."""

import gzip
import json
import random
import re
import signal
from pathlib import Path

import pytest
from tests.cli.command import Process, started, statewise, wait_for_end, wait_until
from tests.cli.score.results import KINDS, LENGTHS, Array, command, read, score

from statewise.cli._score import ResultLog


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


@pytest.fixture
def second(rows: list[Array], tmp_path: Path) -> Path:
    """All rows in a .jsonl.gz; line 500 is no JSON."""
    path = tmp_path / "second.jsonl.gz"
    lines = [json.dumps({"id": f"r{index}", "inputs": row.tolist()}) for index, row in enumerate(rows)]
    lines[499] = "{"
    path.write_bytes(gzip.compress("\n".join(lines).encode(), 1))
    return path


@pytest.mark.long
@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for seed, kind in enumerate(KINDS)])
def test_killed_at_random_moments_it_ends_with_the_same_bytes(
    target: str, source: Path, second: Path, tmp_path: Path, kind: str, seed: int
) -> None:
    whole, output = tmp_path / f"whole{kind}", tmp_path / f"output{kind}"
    part = tmp_path / f"output{kind}.part"
    inputs = ("--input", second)
    assert statewise(*command(target, source, whole), *inputs).code == 0
    moments = random.Random(seed)

    kills = resumed = 0
    for kill in range(8):
        with started(*command(target, source, output), *inputs) as process:
            kill_at_random(process, part, moments, early=kill % 4 == 3)
            _, err = process.communicate(timeout=120)
        resumed += "continuing at row" in err
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
        kills += 1
    else:
        done = statewise(*command(target, source, output), *inputs)
        assert done.code == 0, done.err
        resumed += "continuing at row" in done.err

    assert kills
    assert resumed
    assert output.read_bytes() == whole.read_bytes()
    names = [f"r{index}" for index in range(len(LENGTHS))]
    unread = len(LENGTHS) + 499  # has no id but its index
    expected = [*names, *names[:499], unread, *names[500:]]
    assert [str(name) for name, _, _ in read(output)] == [str(name) for name in expected]
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
        first = size(part)
        wait_until(process, lambda: size(part) > first)  # so the first results are recorded
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert re.fullmatch(
        r"interrupted; [\d,]+ results are kept, and the same command continues from there\n", err
    )


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
    assert " kept" not in statewise(*away).err  # nothing was done
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


def test_an_output_is_replaced_only_when_told(target: str, few: Path, tmp_path: Path) -> None:
    output = tmp_path / "output.jsonl"
    output.write_text("of another program")
    refused = score(target, "last", "--input", few, "--output", output, "--restart")
    assert refused.complaint == f"{output} exists; --overwrite replaces it"
    assert output.read_text() == "of another program"
    assert score(target, "last", "--input", few, "--output", output, "--overwrite").code == 0
    assert len(read(output)) == 12


def test_a_run_replaces_the_output_that_it_wrote_before_it_was_killed(
    target: str, few: Path, tmp_path: Path
) -> None:
    output, part = tmp_path / "output.jsonl", tmp_path / "output.jsonl.part"
    run = (target, "last", "--input", few, "--output", output)
    assert "1 of 8 rows failed" in score(*run, "--max-failures", "1").complaint
    with ResultLog(part) as log:
        log.note_complete()
    output.write_text("what it wrote")
    done = score(*run, "--json")
    assert (done.json["rows"], done.json["resumed_at"]) == (12, 8)
    assert len(read(output)) == 12
    assert not part.exists()
