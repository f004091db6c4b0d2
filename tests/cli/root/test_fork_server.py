"""Checks that a command in a forked process does what one in a fresh process does."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.command import Finished, environment, statewise
from tests.cli.fork_server import same_at_import


def in_fresh_process(arguments: list[str]) -> Finished:
    command = [sys.executable, "-m", "statewise.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["serve", "--help"], 0),
        (["inspect", "nowhere"], 1),
        (["models", "--target", "127.0.0.1:1"], 1),
        (["generate", "--model"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_it_prints_and_ends_like_a_fresh_one(arguments: list[str], code: int) -> None:
    forked = statewise(*arguments)
    assert forked == in_fresh_process(arguments)
    assert forked.code == code


def test_it_runs_in_the_folder_of_its_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert statewise("inspect", "folder").complaint == in_fresh_process(["inspect", "folder"]).complaint


def test_what_libraries_read_at_their_import_needs_a_fresh_one() -> None:
    assert same_at_import(environment(), environment({"STATEWISE_TARGET": "127.0.0.1:1", "COLUMNS": "80"}))
    for name in ("OMP_NUM_THREADS", "GRPC_VERBOSITY", "PYTHONIOENCODING"):
        assert not same_at_import(environment(), environment({name: "7"}))


def test_one_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        statewise("serve", "--repository", tmp_path, "--listen", "127.0.0.1:0", timeout_s=0.2)
