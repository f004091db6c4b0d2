"""Where output goes: results to stdout, everything else to stderr.

With --json, stdout carries JSON objects and nothing else.
"""

import json
from typing import Annotated, Any

import typer
from rich.console import Console

JsonFlag = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")
]

_PLAIN_WIDTH = 120  # columns of tables that go to a file or a pipe, which have no width of their own


def results() -> Console:
    """Console of what the user asked for."""
    return _console(stderr=False)


def remarks() -> Console:
    """Console of progress and everything that is not the result."""
    return _console(stderr=True)


def print_json(value: Any) -> None:
    """Writes one JSON object on one line of stdout, at once."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    return console
