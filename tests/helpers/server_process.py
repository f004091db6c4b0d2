"""Starts servers in processes of their own, whose signals, memory and open files a test can see."""

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

SERVE = """
import gc, json, sys
from statewise.service import Settings, serve
if sys.argv[2:] == ["without collector"]:
    gc.disable()
serve(Settings(**json.loads(sys.argv[1])), ready=sys.stdout)
"""


class ServerProcess:
    """A server in a process of its own."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self.child = child
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line.startswith("listening on 127.0.0.1:")
        self.address = line.split()[-1]

    @property
    def resident_bytes(self) -> int:
        """The memory that the process holds now."""
        pages = int(Path(f"/proc/{self.child.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    @property
    def highest_bytes(self) -> int:
        """The most memory that the process has ever held."""
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    @property
    def open_files(self) -> int:
        """The number of files and sockets that the process has open."""
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))

    def kill(self) -> None:
        """Ends the process as a crash does."""
        self.child.kill()
        self.child.wait()

    def stop(self, *, within_s: float | None = None) -> int:
        """Lets the server finish, and returns the exit status; fails if it takes longer."""
        self.child.terminate()
        return self.child.wait(within_s)

    def pause(self) -> None:
        """Stops the process: it keeps its connections and answers nothing."""
        os.kill(self.child.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Lets the process go on."""
        os.kill(self.child.pid, signal.SIGCONT)


class ServerProcesses:
    """Starts servers of one repository; they end with the test."""

    def __init__(self, repository: Path, running: ExitStack) -> None:
        self._repository = repository
        self._running = running

    def start(self, **settings: Any) -> ServerProcess:
        """A server with these settings, once it listens. It loads versions itself, like `running_server`."""
        return self.start_logged(None, **settings)

    def start_without_collector(self, **settings: Any) -> ServerProcess:
        """The same, where Python never searches for cycles: what is part of one stays in memory."""
        return self._start(None, settings, "without collector")

    def start_logged(self, log: Path | None, /, **settings: Any) -> ServerProcess:
        """The same as `start`, with what the server writes to stderr in a file."""
        return self._start(log, settings)

    def _start(self, log: Path | None, settings: dict[str, Any], *arguments: str) -> ServerProcess:
        defaults = {"listen": "127.0.0.1:0", "grace_s": 5, "load_in_child": False}
        chosen = {"repository": str(self._repository), **defaults, **settings}
        command = [sys.executable, "-c", SERVE, json.dumps(chosen), *arguments]
        with nullcontext() if log is None else log.open("ab") as stderr:
            child = self._running.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
            )
        self._running.callback(child.kill)
        return ServerProcess(child)
