"""Holds how every subcommand writes: results to stdout, everything else to stderr, failures in one line.

Never imports NumPy, ONNX or gRPC: the root imports this folder before any subcommand.
"""

from statewise.cli._terminal._arrays import LineWriter, short_lists
from statewise.cli._terminal._console import JsonFlag, remark, stderr_console, stdout_console
from statewise.cli._terminal._failure import exits_on, fail
from statewise.cli._terminal._help import Command, Group, ListingGroup, unless_subcommand
from statewise.cli._terminal._json import NOT_FINITE, print_json, read_json_array, to_json

__all__ = [
    "NOT_FINITE",
    "Command",
    "Group",
    "JsonFlag",
    "LineWriter",
    "ListingGroup",
    "exits_on",
    "fail",
    "print_json",
    "read_json_array",
    "remark",
    "short_lists",
    "stderr_console",
    "stdout_console",
    "to_json",
    "unless_subcommand",
]
