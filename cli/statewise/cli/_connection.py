"""The options by which client commands reach a server, in one place."""

from typing import Annotated

import typer

TargetOption = Annotated[
    str, typer.Option("--target", metavar="HOST:PORT", envvar="STATEWISE_TARGET", help="The server.")
]

DEFAULT_TARGET = "127.0.0.1:50051"
"""Where `statewise serve` listens unless told otherwise."""
