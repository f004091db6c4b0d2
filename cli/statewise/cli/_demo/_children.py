"""Runs subcommands in child processes: several at the same time, or a server for the length of a block.

Each child gets one thread for linear algebra, because the children share the machine. No child outlives the
block that started it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

_LISTENING = "listening on "
_STOP_TIMEOUT_S = 60.0


class ChildFailed(Exception):  # noqa: N818 - the name says what happened
    """A child process failed.

    Attributes:
        command: Its command line, as a user would type it.
        code: Its exit code.
    """

    def __init__(self, command: Sequence[str], code: int, stderr: str) -> None:
        self.command = " ".join(["statewise", *command])
        self.code = code
        super().__init__(f"{self.command}: exit code {code}: {stderr.strip() or 'no message'}")


def run_side_by_side(commands: Sequence[Sequence[str]]) -> list[str]:
    """Runs several commands at the same time.

    Args:
        commands: Arguments of each command, without the leading `statewise`.

    Returns:
        The stdout of each command.

    Raises:
        ChildFailed: A command failed; the others are killed.
    """
    with ExitStack() as stack:
        children = [stack.enter_context(_child(command, stderr=subprocess.PIPE)) for command in commands]
        outputs = []
        for command, child in zip(commands, children, strict=True):
            output, stderr = child.communicate()
            if child.returncode:
                raise ChildFailed(command, child.returncode, stderr)
            outputs.append(output)
        return outputs


@contextmanager
def running_server(repository: Path, *, log: Path) -> Iterator[str]:
    """Serves a repository on a free port, yields HOST:PORT once ready, and stops the server by SIGTERM.

    Args:
        repository: Folder of models.
        log: File for the server's stderr.

    Raises:
        ChildFailed: The server did not start, or did not exit with 0 on SIGTERM.
    """
    command = ["serve", "--repository", str(repository), "--listen", "127.0.0.1:0"]
    with log.open("w") as file, _child(command, stderr=file) as child:
        assert child.stdout is not None, "opened as a pipe"
        line = child.stdout.readline()
        if not line.startswith(_LISTENING):
            raise ChildFailed(command, child.wait(_STOP_TIMEOUT_S), log.read_text())
        yield line.removeprefix(_LISTENING).strip()
        child.send_signal(signal.SIGTERM)
        code = child.wait(_STOP_TIMEOUT_S)
        if code:
            raise ChildFailed(command, code, log.read_text())


@contextmanager
def _child(command: Sequence[str], *, stderr: int | IO[str]) -> Iterator["subprocess.Popen[str]"]:
    arguments = [sys.executable, "-m", "statewise.cli", *command]
    child = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=stderr, text=True, env=_environment())
    with child:
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()


def _environment() -> dict[str, str]:
    one_thread = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    return {**one_thread, **os.environ}
