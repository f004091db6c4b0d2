"""Serves as the program of a child process: reads calls from stdin, answers on stdout."""

import os
import resource
import sys
from pathlib import Path

from statewise.export.isolation._messages import HEADER, pack, unpack


def main(memory_bytes: int) -> None:
    """Limits the process; then calls functions and writes results or errors, until stdin ends."""
    _limit(memory_bytes)
    calls = sys.stdin.buffer
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what libraries print must not mix with the answers
        while header := calls.read(HEADER.size):
            answer = _answer(calls.read(HEADER.unpack(header)[0]), memory_bytes)
            answers.write(HEADER.pack(len(answer)))
            answers.write(answer)
            answers.flush()


def _answer(call: bytes, memory_bytes: int) -> bytes:
    """Returns whether a call succeeded, and its result or error."""
    try:
        function, arguments = unpack(call)
        return pack((True, function(*arguments)))
    except MemoryError:
        return pack((False, MemoryError(f"expected to need at most {memory_bytes:,} bytes of memory")))
    except Exception as error:
        return pack((False, error))


def _limit(memory_bytes: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        # If the machine runs out of memory all the same, the system ends this process rather than its parent.
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return
