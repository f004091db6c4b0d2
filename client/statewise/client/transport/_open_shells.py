"""Keeps the shells that are open, to close them at exit and to disable them in forked children."""

import atexit
import os
import weakref
from contextlib import suppress
from typing import Protocol


class Shell(Protocol):
    """What is done to a shell that its program did not close."""

    def close_at_exit(self) -> None:
        """Ends calls and threads before the interpreter shuts down."""
        ...

    def forked(self) -> None:
        """Makes the client refuse work: the process is a child, and connections stay with its parent."""
        ...


open_shells: weakref.WeakSet[Shell] = weakref.WeakSet()


def _close_all() -> None:
    for shell in list(open_shells):
        with suppress(Exception):  # the program is at its end
            shell.close_at_exit()


def _disable_all() -> None:
    for shell in list(open_shells):
        shell.forked()
    open_shells.clear()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disable_all)
