"""Keeps the shells that are open, to close them at exit and to disable them in forked children.

Sets are copied in one step of the interpreter, so a thread that opens a client at that moment does no harm; a
lock might be held in the parent when a child is forked.
"""

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

_END_WAIT_S = 5.0


class Shell(Protocol):
    """What is done to a shell that its program did not close."""

    def close_at_exit(self) -> None:
        """Ends calls and threads before the interpreter shuts down."""
        ...

    def forked(self) -> None:
        """Makes the client refuse work: the process is a child, and connections stay with its parent."""
        ...


class OpenShells:
    """The shells of a process that are open, and the threads that close dropped ones."""

    def __init__(self) -> None:
        self._shells: set[weakref.ref[Shell]] = set()
        self._closing: set[threading.Thread] = set()

    def add(self, shell: Shell) -> None:
        """Notes a shell; it may be collected."""
        self._shells.add(weakref.ref(shell, self._shells.discard))

    def close_aside(self, close: Callable[[], None]) -> None:
        """Closes what a collected shell left, in a thread for which the end of the program waits."""

        def run() -> None:
            try:
                close()
            finally:
                self._closing.discard(threading.current_thread())

        thread = threading.Thread(target=run, name="statewise-client-end", daemon=True)
        self._closing.add(thread)
        thread.start()

    def close(self) -> None:
        """Closes all: at exit."""
        for shell in self._alive():
            with suppress(Exception):  # the program is at its end
                shell.close_at_exit()
        for thread in list(self._closing):
            thread.join(_END_WAIT_S)

    def forked(self) -> None:
        """Disables all: in a forked child."""
        for shell in self._alive():
            shell.forked()
        self._shells.clear()
        self._closing.clear()

    def _alive(self) -> list[Shell]:
        return [shell for reference in list(self._shells) if (shell := reference()) is not None]


open_shells = OpenShells()
atexit.register(open_shells.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=open_shells.forked)
