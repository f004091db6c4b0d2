"""Runs the command as a user does: a process with arguments, streams and an exit code."""

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Self

from tests.cli.fork_server import ForkServer, same_at_import

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
    stdin: str | bytes | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Finished:
    """Runs a subcommand to its end, in a forked process unless `env` needs a fresh one: see `ForkServer`."""
    words, variables = [*map(str, arguments)], environment(env)
    typed = stdin.encode() if isinstance(stdin, str) else stdin
    server = _fork_server()
    if same_at_import(variables, server.environment):
        return Finished(*server.run(words, stdin=typed, environment=variables, timeout_s=timeout_s))
    command = _command(arguments)
    done = subprocess.run(command, input=typed, capture_output=True, timeout=timeout_s, env=variables)
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


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


class Server:
    """`statewise serve` beside a test. As a context it has to live and to end well, without a traceback."""

    def __init__(self, repository: Path, *options: str | Path, env: Mapping[str, str] | None = None) -> None:
        self.target = "127.0.0.1:0"
        """HOST:PORT, known once it has started."""
        self._command = ("serve", "--repository", repository, *options)
        # The line that it listens comes when no version loads any more, also on a busy machine.
        self._env = {"STATEWISE_STARTUP_S": "600", **(env or {})}

    def __enter__(self) -> Self:
        self._log = TemporaryFile("a+")
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                assert self.lives, f"the server has ended: {self.log}"
                self.process.terminate()
                assert self.process.wait(TIMEOUT_S) == 0, self.log
                assert "Traceback" not in self.log, self.log
        finally:
            self.kill()
            self._log.close()

    def start(self) -> None:
        """Starts it, on its port of before, and waits until every version serves or has failed."""
        self.process = subprocess.Popen(
            _command((*self._command, "--listen", self.target)),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment(self._env),
        )
        line = pipe(self.process.stdout).readline()
        if not line.startswith(_LISTENING):
            self.kill()
            raise AssertionError(f"{line!r} {self.log}")
        self.target = line.removeprefix(_LISTENING).strip()

    def kill(self) -> None:
        """Ends it at once."""
        self.process.kill()
        self.process.communicate()

    @property
    def lives(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    @property
    def log(self) -> str:
        """What it has written to stderr."""
        self._log.seek(0)
        return self._log.read()


def wait_until(process: Process, condition: Callable[[], bool]) -> None:
    """Waits until a condition holds, or the process ends."""
    while process.poll() is None and not condition():
        wait_for_end(process, 0.001)


def wait_for_end(process: Process, timeout_s: float) -> None:
    """Waits until the process ends, or the time is over."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout_s)


@cache
def _fork_server() -> ForkServer:
    server = ForkServer(environment())
    atexit.register(server.close)
    return server


def _command(arguments: tuple[str | Path, ...]) -> list[str]:
    return [sys.executable, "-m", "statewise.cli", *map(str, arguments)]
