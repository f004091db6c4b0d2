"""Ends a subcommand that failed: one line on stderr, exit code 1, no traceback.

Only errors that a subcommand names are expected. Any other error is a defect and keeps its traceback.
"""

import functools
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

import typer

_P = ParamSpec("_P")
_R = TypeVar("_R")


def fail(message: object) -> NoReturn:
    """Prints one line on stderr and ends the command with exit code 1."""
    if isinstance(message, OSError) and message.filename and message.strerror:
        message = f"{message.filename}: {message.strerror}"  # leaves the error number out
    print(f"statewise: {' '.join(str(message).split())}", file=sys.stderr)
    raise typer.Exit(1)


def exits_on(*errors: type[Exception]) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorates a subcommand: it calls `fail` on these errors, which the user can correct."""

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            try:
                return function(*args, **kwargs)
            except BrokenPipeError:
                # The reader of stdout has closed it; typer ends the command quietly.
                raise
            except errors as error:
                fail(error)

        return guarded

    return decorate
