"""Runs the command as a user does: a process with arguments, streams and an exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

TIMEOUT_S = 100.0
"""A command that hangs fails its test, before the bound of a test ends the process with all its tests."""
_LISTENING = "listening on "

Process = subprocess.Popen[str]


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as one JSON object on one line."""
        assert self.out.count("\n") == 1, f"expected one line on stdout, got {self.out!r}"
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The line on stderr of an expected failure, without its prefix."""
        assert self.code == 1, (self.code, self.err)
        assert self.out == ""
        assert self.err.startswith("statewise: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("statewise: ").rstrip("\n")


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment and `env`, without settings of the command; one thread each."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STATEWISE_")}
    return {**kept, "COLUMNS": "100", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **(env or {})}


def statewise(
    *arguments: str | Path,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Finished:
    """Runs a subcommand to its end."""
    finished = subprocess.run(
        _command(arguments),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environment(env),
    )
    return Finished(finished.returncode, finished.stdout, finished.stderr)


@contextmanager
def started(
    *arguments: str | Path, env: Mapping[str, str] | None = None, terminal: int | None = None
) -> Iterator[Process]:
    """Runs a subcommand beside the block, and kills it at the end of the block if it still runs.

    Args:
        arguments: Of the command.
        env: Further variables.
        terminal: File descriptor that replaces the text pipes of all three streams.
    """
    stream = subprocess.PIPE if terminal is None else terminal
    process = subprocess.Popen(
        _command(arguments), stdin=stream, stdout=stream, stderr=stream, text=True, env=environment(env)
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def pipe(stream: IO[str] | None) -> IO[str]:
    """One of the pipes of a started process."""
    assert stream is not None
    return stream


def listening(server: Process) -> str:
    """Waits until a started server is ready; returns HOST:PORT."""
    line = pipe(server.stdout).readline()
    assert line.startswith(_LISTENING), pipe(server.stderr).read()
    return line.removeprefix(_LISTENING).strip()


def wait_until(process: Process, condition: Callable[[], bool]) -> None:
    """Waits until a condition holds, or the process ends."""
    while process.poll() is None and not condition():
        wait_for_end(process, 0.001)


def wait_for_end(process: Process, timeout_s: float) -> None:
    """Waits until the process ends, or the time is over."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout_s)


def _command(arguments: tuple[str | Path, ...]) -> list[str]:
    return [sys.executable, "-m", "statewise.cli", *map(str, arguments)]
