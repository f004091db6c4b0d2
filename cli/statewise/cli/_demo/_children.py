"""The command itself, run in child processes: several side by side, or a server for a while.

Children get one thread for linear algebra, because they share the machine with each other. None outlives the
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


class ChildFailed(Exception):  # noqa: N818 - what happened, not who erred
    """A child process ended otherwise than it should.

    Attributes:
        command: What was run, as a user would type it.
        code: Its exit code.
    """

    def __init__(self, command: Sequence[str], code: int, said: str) -> None:
        self.command = " ".join(["statewise", *command])
        self.code = code
        super().__init__(f"{self.command}: exit code {code}: {said.strip() or 'no message'}")


def run_side_by_side(commands: Sequence[Sequence[str]]) -> list[str]:
    """Runs several commands at the same time.

    Args:
        commands: Arguments of each, without the leading `statewise`.

    Returns:
        What each wrote to stdout.

    Raises:
        ChildFailed: one of them failed; the others are ended.
    """
    with ExitStack() as stack:
        children = [stack.enter_context(_child(command, stderr=subprocess.PIPE)) for command in commands]
        outputs = []
        for command, child in zip(commands, children, strict=True):
            output, said = child.communicate()
            if child.returncode:
                raise ChildFailed(command, child.returncode, said)
            outputs.append(output)
        return outputs


@contextmanager
def running_server(repository: Path, *, log: Path) -> Iterator[str]:
    """Serves a repository on a free port; gives HOST:PORT once ready, and stops by SIGTERM.

    Args:
        repository: Folder of models.
        log: File that gets what the server has to say.

    Raises:
        ChildFailed: the server did not start, or did not end with 0 on SIGTERM.
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
