"""Runs commands in forked children of a process that has imported all subcommands, so none waits for imports.

A child has the arguments, environment, folder and streams of its command, runs `main`, and ends as any
interpreter does. What libraries read at their import is that of the process which forks; `same_at_import`
tells whether a child can have some environment. The process which forks has one thread and no connection.
"""

import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_READ_LATE = re.compile(
    "_?STATEWISE_.*|COMP_(WORDS|CWORD)|PYTEST_CURRENT_TEST|COLUMNS|NO_COLOR|TERM|(http|https|no)_proxy"
)
"""Variables that are read when a command runs."""


def same_at_import(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Returns whether two environments differ only in variables that no library reads at its import."""
    differing = {name for name in {*one, *other} if one.get(name) != other.get(name)}
    return all(_READ_LATE.fullmatch(name) for name in differing)


class ForkServer:
    """The process that forks.

    Args:
        environment: Its environment, which libraries read at their import.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.fork_server", str(theirs.fileno())],
                cwd=_ROOT,
                env=self.environment,
                # Python asks once what its streams are. Those of commands are no terminals either.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
            )

    def close(self) -> None:
        """Ends the process."""
        self._control.close()
        self._process.communicate()

    def run(
        self, arguments: list[str], *, stdin: bytes | None, environment: Mapping[str, str], timeout_s: float
    ) -> tuple[int, str, str]:
        """Runs a command to its end; returns its exit code, stdout and stderr.

        Raises:
            TimeoutError: it took longer and was killed.
        """
        ours, theirs = socket.socketpair()
        with ours, TemporaryFile("w+") as request, TemporaryFile("w+") as out, TemporaryFile("w+") as err:
            json.dump({"arguments": arguments, "environment": dict(environment), "cwd": os.getcwd()}, request)
            request.seek(0)
            read_end = os.dup(0) if stdin is None else _pipe_with(stdin)
            files = [theirs.fileno(), request.fileno(), read_end, out.fileno(), err.fileno()]
            socket.send_fds(self._control, [b"run"], files)
            os.close(read_end)
            theirs.close()
            with ours.makefile() as told:
                pid = int(told.readline())
                ours.settimeout(timeout_s)
                try:
                    code = int(told.readline())
                except BaseException:
                    os.kill(pid, signal.SIGKILL)
                    raise
            for file in (out, err):
                file.seek(0)
            return code, out.read(), err.read()


def _pipe_with(typed: bytes) -> int:
    """Returns the end of a pipe from which a process reads what is typed."""
    read_end, write_end = os.pipe()

    def write() -> None:
        # A command may end before it has read everything.
        with suppress(BrokenPipeError), open(write_end, "wb") as pipe:
            pipe.write(typed)

    threading.Thread(target=write, name="stdin-of-a-command", daemon=True).start()
    return read_end


def _import_everything() -> None:
    """Imports the subcommands after `main` has set the variables that libraries read at their import."""
    from statewise.cli import main

    sys.argv = ["statewise", "--version"]
    with open(os.devnull, "w") as nowhere:
        sys.stdout, shown = nowhere, sys.stdout
        with suppress(SystemExit):
            main()
        sys.stdout = shown

    from statewise.cli._app import subcommands

    for name in subcommands():
        import_module(f"statewise.cli._{name}")
    assert len(os.listdir("/proc/self/task")) == 1, "threads do not survive a fork"
    gc.freeze()  # a collection in a child would copy the memory that it shares


def _fork_for_each_request(control: socket.socket) -> list[int]:
    """Returns in a child for each request, with the request's files. Ends this process after the last."""
    children = 0
    while True:
        _, files, _, _ = socket.recv_fds(control, 16, 5)
        while children and os.waitpid(-1, os.WNOHANG if files else 0)[0]:
            children -= 1
        if not files:
            sys.exit()
        children += 1
        if os.fork() == 0:
            control.close()
            return files
        for file in files:
            os.close(file)


def _become_command(caller: int, request: int, *streams: int) -> None:
    """Returns in the command's process. Its parent tells the caller its process id and exit code."""
    child = os.fork()
    if child:
        os.write(caller, f"{child}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with suppress(BrokenPipeError):  # the caller no longer waits
            os.write(caller, f"{code}\n".encode())
        os._exit(0)
    with open(request) as file:
        asked: dict[str, Any] = json.load(file)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for number in (caller, *streams):
        os.close(number)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["cwd"])
    sys.argv = ["statewise", *asked["arguments"]]


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        _import_everything()
        of_request = _fork_for_each_request(listening)
    _become_command(*of_request)
    from statewise.cli import main

    main()
