"""Runs functions in a child process, so that a crash inside a library ends the child and not its parent.

Not a sandbox: the child has the parent's rights. It limits its own memory, and the parent ends it after a
time. A child that answered serves the next call too. Uses the standard library alone.
"""

import atexit
import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from statewise.export.isolation._messages import HEADER, pack, unpack

_T = TypeVar("_T")

LIMIT_S = 900.0
"""Longest time from a call to its answer, the start of the child included."""

_LEAST_MEMORY_BYTES = 2**31
_READ_BYTES = 2**20
_PATIENCE_S = 1.0  # for a child that has closed its pipe to end
_START = (
    "import sys; memory_bytes = int(sys.argv[1]); sys.path[:] = sys.argv[2:]; "
    "from statewise.export.isolation._child import main; main(memory_bytes)"
)


class ChildDied(Exception):  # noqa: N818 - named after the situation, as the others are
    """The child ended without an answer.

    Attributes:
        reason: The signal or limit that ended the child, as a clause.
        crashed: A signal ended the child, and no limit was the cause.
    """

    def __init__(self, reason: str, *, crashed: bool) -> None:
        self.reason = reason
        self.crashed = crashed
        super().__init__(reason)


def run_isolated(
    function: Callable[..., _T], *arguments: Any, limit_s: float = LIMIT_S, memory_bytes: int | None = None
) -> _T:
    """Calls a function in a child process.

    Args:
        function: A function of a module; arguments, result and errors are pickled.
        arguments: Arguments of the function.
        limit_s: Time after which the child is ended.
        memory_bytes: The most that the child may allocate. Default: three quarters of the machine's memory,
            at least 2 GiB.

    Raises:
        ChildDied: a signal or a limit ended the child.
        MemoryError: the function needs more memory.
        Exception: as the function raised it.
    """
    memory_bytes = _default_memory_bytes() if memory_bytes is None else memory_bytes
    call = pack((function, arguments))
    child = _spare_children.take(memory_bytes)
    try:
        answer = child.call(call, time.monotonic() + limit_s)
    except BaseException:
        child.end()
        raise
    if answer is None:
        raise child.death(limit_s)
    _spare_children.give(child)
    succeeded, result = unpack(answer)
    if not succeeded:
        raise result
    value: _T = result
    return value


def _default_memory_bytes() -> int:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(physical * 3 // 4, _LEAST_MEMORY_BYTES)


class _Child:
    """One child process, which answers one call at a time."""

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self.owner = os.getpid()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, str(memory_bytes), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def call(self, message: bytes, deadline: float) -> bytes | None:
        """Returns the answer to a message; None where the child ended, or has not answered by the
        deadline.
        """
        assert self._process.stdin is not None, "opened as a pipe"
        try:
            self._process.stdin.write(HEADER.pack(len(message)) + message)
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        header = self._read(HEADER.size, deadline)
        return None if header is None else self._read(HEADER.unpack(header)[0], deadline)

    def _read(self, size: int, deadline: float) -> bytes | None:
        assert self._process.stdout is not None, "opened as a pipe"
        descriptor, received = self._process.stdout.fileno(), bytearray()
        while len(received) < size:
            ready, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))
            part = os.read(descriptor, min(size - len(received), _READ_BYTES)) if ready else b""
            if not part:
                return None
            received += part
        return bytes(received)

    def death(self, limit_s: float) -> ChildDied:
        """Ends the child, and says why it gave no answer within a time."""
        try:
            # A child that has closed its pipe is about to end by itself.
            death = _death(self._process.wait(_PATIENCE_S), _last_line(self._log))
        except subprocess.TimeoutExpired:
            death = ChildDied(f"it ran longer than {limit_s:g} s", crashed=False)
        self.end()
        return death

    def end(self) -> None:
        """Ends the child."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # of what a dead child has not read
                    pipe.close()
        self._log.close()


class _SpareChildren:
    """Children that have answered and wait for the next call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: list[_Child] = []

    def take(self, memory_bytes: int) -> _Child:
        """Returns a child of this process with that limit; a new one where none waits."""
        with self._lock:
            for child in self._children:
                if child.memory_bytes == memory_bytes and child.owner == os.getpid():
                    self._children.remove(child)
                    return child
        return _Child(memory_bytes)

    def give(self, child: _Child) -> None:
        """Keeps one child for the next call, and ends the others."""
        with self._lock:
            surplus, self._children = self._children, [child]
        for other in surplus:
            if other.owner == os.getpid():
                other.end()

    def end(self) -> None:
        """Ends all children of this process."""
        with self._lock:
            surplus, self._children = self._children, []
        for child in surplus:
            if child.owner == os.getpid():
                child.end()


_spare_children = _SpareChildren()
atexit.register(_spare_children.end)


def _death(code: int, last_line: str) -> ChildDied:
    if code >= 0:
        return ChildDied(f"it ended with code {code}: {last_line}", crashed=False)
    if -code == signal.SIGKILL:
        return ChildDied("the system ended it (SIGKILL), probably for want of memory", crashed=False)
    name = signal.Signals(-code).name
    remark = f": {last_line}" if -code == signal.SIGABRT and last_line else ""
    return ChildDied(f"it crashed ({name}{remark})", crashed=True)


def _last_line(log: Any) -> str:
    """Returns the last line that the child wrote on stderr."""
    size = log.seek(0, os.SEEK_END)
    log.seek(max(size - 4096, 0))
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else ""
