"""Holds how subcommands reach a server: their common options, and the client made from them.

Never holds what a subcommand does with the client.
"""

from statewise.cli._connection._connection import Connection, with_connection
from statewise.cli._connection._options import DEFAULT_TARGET, ModelOption, VersionOption, complete_models

__all__ = [
    "DEFAULT_TARGET",
    "Connection",
    "ModelOption",
    "VersionOption",
    "complete_models",
    "with_connection",
]
