"""The command as a user runs it: a process with arguments, streams and an exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as the one JSON object it has to be."""
        assert self.out.count("\n") == 1, f"expected one line on stdout, got {self.out!r}"
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line on stderr that an expected failure leaves, without its prefix."""
        assert self.code == 1, (self.code, self.err)
        assert self.out == ""
        assert self.err.startswith("statewise: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("statewise: ").rstrip("\n")


Statewise = Callable[..., Finished]
Start = Callable[..., "subprocess.Popen[str]"]


def environment() -> dict[str, str]:
    """Without what could change the command's settings or its looks; one thread, the machine being shared."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STATEWISE_")}
    return {**kept, "COLUMNS": "100", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def statewise() -> Statewise:
    """statewise("train", "vowels", ..., stdin=None, env=None) -> Finished."""

    def run(*arguments: str | Path, stdin: str | None = None, env: dict[str, str] | None = None) -> Finished:
        finished = subprocess.run(
            [sys.executable, "-m", "statewise.cli", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env={**environment(), **(env or {})},
        )
        return Finished(finished.returncode, finished.stdout, finished.stderr)

    return run


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """start("serve", ..., env=None) -> a running process, ended with the tests where it still runs.

    It has text pipes; keywords such as stdin= put others in their place.
    """
    with ExitStack() as stack:

        def run(
            *arguments: str | Path, env: dict[str, str] | None = None, **streams: int
        ) -> "subprocess.Popen[str]":
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "statewise.cli", *map(str, arguments)],
                    text=True,
                    env={**environment(), **(env or {})},
                    **{**pipes, **streams},
                )
            )
            stack.callback(process.kill)
            return process

        yield run


@pytest.fixture(scope="session")
def trained(statewise, tmp_path_factory) -> dict[str, Path]:
    """Checkpoint folders of two short trainings."""
    folder = tmp_path_factory.mktemp("trained")
    for recipe in ("vowels", "gait"):
        done = statewise("train", recipe, "--out", folder / recipe, "--set", "train.epochs=2")
        assert done.code == 0, done.err
    return {recipe: folder / recipe for recipe in ("vowels", "gait")}


@pytest.fixture(scope="session")
def repository(statewise, trained, tmp_path_factory) -> Path:
    """Both as packages."""
    repository = tmp_path_factory.mktemp("repository")
    for folder in trained.values():
        done = statewise("export", folder, "--repository", repository)
        assert done.code == 0, done.err
    return repository
