"""Tests versions in child processes: starts them, asks them, and tells how one ended.

A child handles versions one after another; as many run as threads ask at the same time. Children are started
by exec, never by a bare fork, which a process with threads does not survive.
"""

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from statewise.service.base import ServiceError, shortened
from statewise.service.engine import Optimisation
from statewise.service.registry._inspection import Inspection, InspectionRequest
from statewise.service.registry._repository import VersionFolder
from statewise.wire import Reason

_log = logging.getLogger(__name__)

_MODULE = "statewise.service.registry._inspector"


@dataclass(frozen=True, slots=True)
class _Death:
    """A child ended, or was ended, before it answered.

    Attributes:
        how: In words.
        stage: What the child was doing: "read", "load", or "" before it began.
        crashed: Whether a signal ended it, and neither memory nor time.
    """

    how: str
    stage: str
    crashed: bool


class InspectorPool:
    """Tests versions; see `Inspector`.

    Args:
        intra_op_threads: Threads within one run.
        provider: What graphs run on.
        test_s: Seconds that the measurements of a version may take.
        load_s: Seconds after which a child that has not answered is ended.
        load_bytes: Most bytes of memory of a child.
    """

    def __init__(
        self, *, intra_op_threads: int, provider: str, test_s: float, load_s: float, load_bytes: int
    ) -> None:
        self._intra_op_threads = intra_op_threads
        self._provider = provider
        self._test_s = test_s
        self._load_s = load_s
        self._load_bytes = load_bytes
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._closed = False

    def inspect(self, folder: VersionFolder) -> Inspection:
        """Loads and tests a version at the highest level of optimisation that it survives.

        Raises:
            ServiceError: PACKAGE_INVALID, with the reason.
        """
        where = f"{folder.name}/{folder.version}"
        deaths: list[_Death] = []
        for level in Optimisation:
            answer = self._ask(folder, level)
            if isinstance(answer, Inspection):
                if deaths:
                    _log.warning(
                        "%s: %s at full optimisation; loaded at level %r", where, deaths[0].how, level.value
                    )
                return answer
            deaths.append(answer)
            if not answer.crashed or answer.stage != "load":
                break
        first = deaths[0]
        doing = {"": "starting", "read": "reading its graphs", "load": "loading and testing its graphs"}
        tried = ", at every level of optimisation" if len(deaths) > 1 else ""
        raise ServiceError(
            Reason.PACKAGE_INVALID,
            f"{where}: {doing[first.stage]} in a process of its own {first.how}{tried}",
        )

    def rest(self) -> None:
        """Ends the children that have nothing to do."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.end()

    def close(self) -> None:
        """Ends all children; inspections under way fail."""
        with self._lock:
            self._closed = True
            busy = list(self._busy)
        for child in busy:
            child.kill()
        self.rest()

    def _ask(self, folder: VersionFolder, level: Optimisation) -> "Inspection | _Death":
        """Asks a child; once more a fresh one where a child dies that had handled other versions before."""
        request = InspectionRequest(
            folder.name,
            folder.version,
            folder.path,
            level,
            self._intra_op_threads,
            self._provider,
            self._test_s,
        )
        child = self._take()
        answer = self._ask_child(child, request)
        if isinstance(answer, _Death) and child.served and not self._closed:
            child = self._take(fresh=True)
            answer = self._ask_child(child, request)
        return answer

    def _ask_child(self, child: "_Child", request: InspectionRequest) -> "Inspection | _Death":
        alive = False
        try:
            answer = child.ask(request, self._load_s)
            alive = not isinstance(answer, _Death)
            if isinstance(answer, str):
                raise ServiceError(Reason.PACKAGE_INVALID, answer)
            return answer
        finally:
            with self._lock:
                self._busy.discard(child)
                keeps = alive and not self._closed
                if keeps:
                    child.served = True
                    self._idle.append(child)
            if not keeps:
                child.end()

    def _take(self, *, fresh: bool = False) -> "_Child":
        with self._lock:
            if self._closed:
                raise ServiceError(Reason.PACKAGE_INVALID, "the server is shutting down")
            child = self._idle.pop() if self._idle and not fresh else _Child(self._load_bytes)
            self._busy.add(child)
            return child


class _Child:
    """One child process.

    Attributes:
        served: Whether it has answered a request.
    """

    def __init__(self, load_bytes: int) -> None:
        self.served = False
        # In memory: a container may have no folder that can be written.
        self._stderr = os.fdopen(os.memfd_create("statewise-inspector"), "w+b")
        # The child must not see the server's secrets; it takes its settings from the request.
        own = {name: value for name, value in os.environ.items() if not name.startswith("STATEWISE_")}
        own |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ORT_DISABLE_TELEMETRY": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE, str(load_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=own,
            start_new_session=True,  # Ctrl-C at a terminal is meant for the server
        )
        self._unread = b""

    def ask(self, request: InspectionRequest, limit_s: float) -> Inspection | str | _Death:
        """Returns what the test found, or why the version cannot be served, or how the child ended."""
        end_s = time.monotonic() + limit_s
        stage = ""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(request.to_json().encode() + b"\n")
            self._process.stdin.flush()
            while (line := self._read_line(end_s)) is not None:
                message = json.loads(line)
                if "failure" in message:
                    return str(message["failure"])
                if "inspection" in message:
                    return Inspection.from_json(message["inspection"])
                stage = message["stage"]
        except TimeoutError:
            return _Death(f"took longer than {limit_s:g} s (load_s)", stage, crashed=False)
        except (BrokenPipeError, ValueError):
            pass  # the child has ended, or a library has spoilt its answer
        return self._death(stage)

    def _read_line(self, end_s: float) -> bytes | None:
        """Reads the next line of the answer; None: there is no more. Raises TimeoutError."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, end_s - time.monotonic())):
                    raise TimeoutError
                read = os.read(self._process.stdout.fileno(), 65_536)
                if not read:
                    return None
                self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _death(self, stage: str) -> _Death:
        self._process.kill()  # nothing happens to one that has ended by itself
        code = self._process.wait()
        self._stderr.seek(0)
        last = self._stderr.read().decode(errors="replace").strip()
        if last:
            _log.warning("the process that tests versions wrote at its end: %s", shortened(last[-1_000:]))
        if code >= 0:
            return _Death(f"ended with exit code {code}", stage, crashed=False)
        name = signal.Signals(-code).name
        if name == "SIGKILL":
            return _Death("was ended by SIGKILL, for want of memory perhaps", stage, crashed=False)
        return _Death(f"ended by {name}", stage, crashed=True)

    def kill(self) -> None:
        """Ends the process; a thread that waits for its answer learns of it."""
        self._process.kill()

    def end(self) -> None:
        """Ends the process and frees what belongs to it."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._stderr):
            if file is not None:
                with suppress(BrokenPipeError):
                    file.close()
