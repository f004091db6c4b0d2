"""Ends each of the programs many times, several at once: python -m tests.soak.exits ADDRESS TIMES [NAME …].

A program runs in a forked child, which has all modules imported and ends as any interpreter does. A child
that does not end prints where its threads stand. The exit code is 1 if one did not end, or with another code
than its own.
"""

import asyncio
import faulthandler
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from tests.soak.programs import PROGRAMS

AT_ONCE = 4
HANGS_S = 100.0

Program = Callable[[str], Any]


def become(program: Program, address: str, output: int) -> None:
    """Runs a program in this process, a child; its streams go to a file."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.dump_traceback_later(HANGS_S, exit=True)
    if asyncio.iscoroutinefunction(program):
        asyncio.run(program(address))
    else:
        program(address)


def complaint(program: Program, status: int, output: int) -> str | None:
    """Says what was wrong with the end of a child, if anything; closes its file."""
    code = os.waitstatus_to_exitcode(status)
    with os.fdopen(output, "rb") as printing:
        printing.seek(0)
        printed = printing.read().decode(errors="replace")
    if code == PROGRAMS[program] and "Timeout (" not in printed:
        return None
    return f"{program.__name__} ended with {code}, expected {PROGRAMS[program]}:\n{printed}"


def main() -> None:
    """Runs as the arguments say; returns in a child too, so that the child's interpreter ends."""
    address, times, *names = sys.argv[1:]
    chosen = [program for program in PROGRAMS if not names or program.__name__ in names]
    waiting = chosen * int(times)
    running: dict[int, tuple[Program, int]] = {}
    complaints = []
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            program = waiting.pop()
            output, path = tempfile.mkstemp()
            os.unlink(path)
            pid = os.fork()
            if pid == 0:
                return become(program, address, output)
            running[pid] = program, output
        pid, status = os.wait()
        program, output = running.pop(pid)
        said = complaint(program, status, output)
        if said is not None:
            complaints.append(said)
            print(said, flush=True)
    print(f"{len(chosen)} programs ended {times} times each; {len(complaints)} of these ends were wrong")
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()
