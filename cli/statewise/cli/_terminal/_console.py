"""Opens the consoles that subcommands write to: stdout for results, stderr for everything else.

With --json, stdout carries only JSON objects.
"""

from typing import Annotated

import typer
from rich.console import Console

JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, everything else on stderr.")
]

_PLAIN_WIDTH = 120  # columns of a table in a file or a pipe, which have no width of their own


def stdout_console() -> Console:
    """Returns the console for results."""
    return _console(stderr=False)


def stderr_console() -> Console:
    """Returns the console for progress and remarks."""
    return _console(stderr=True)


def remark(text: str) -> None:
    """Prints a line for people to stderr, neither wrapped nor read as markup: it may hold paths."""
    stderr_console().print(text, markup=False, soft_wrap=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    return console
