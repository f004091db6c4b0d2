"""Failures as users see them: one line on stderr and exit code 1, never a traceback.

Only errors that a subcommand names are expected; anything else is a defect and keeps its traceback.
"""

import functools
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

import typer

_P = ParamSpec("_P")
_R = TypeVar("_R")


def fail(message: object) -> NoReturn:
    """Prints one line on stderr and ends the command with 1."""
    if isinstance(message, OSError) and message.filename and message.strerror:
        message = f"{message.filename}: {message.strerror}"  # without its number
    print(f"statewise: {' '.join(str(message).split())}", file=sys.stderr)
    raise typer.Exit(1)


def expects(*errors: type[Exception]) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorates a subcommand: these errors are the user's to mend and end in `fail`."""

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            try:
                return function(*args, **kwargs)
            except BrokenPipeError:
                # The reader of stdout has seen enough; typer ends the command quietly.
                raise
            except errors as error:
                fail(error)

        return guarded

    return decorate
