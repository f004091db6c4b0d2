"""Holds how subcommands reach a server: their common options, and the client made from them.

Never holds what a subcommand does with the client.
"""

from statewise.cli._connection._connection import Connection, with_connection
from statewise.cli._connection._options import (
    DEFAULT_TARGET,
    ModelOption,
    OwnerOption,
    SessionArgument,
    VersionOption,
    complete_models,
    complete_sessions,
)
from statewise.cli._connection._words import in_words_of_command

__all__ = [
    "DEFAULT_TARGET",
    "Connection",
    "ModelOption",
    "OwnerOption",
    "SessionArgument",
    "VersionOption",
    "complete_models",
    "complete_sessions",
    "in_words_of_command",
    "with_connection",
]
