"""Holds how every subcommand writes: results to stdout, everything else to stderr, failures in one line.

Never imports NumPy, ONNX or gRPC: the root imports this folder before any subcommand.
"""

from statewise.cli._terminal._console import JsonFlag, print_json, stderr_console, stdout_console
from statewise.cli._terminal._failure import exits_on, fail

__all__ = ["JsonFlag", "exits_on", "fail", "print_json", "stderr_console", "stdout_console"]
