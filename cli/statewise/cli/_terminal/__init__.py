"""Holds how every subcommand writes: results to stdout, everything else to stderr, failures in one line.

Never imports NumPy, ONNX or gRPC: the root imports this folder before any subcommand.
"""

from statewise.cli._terminal._console import JsonFlag, print_json, remarks, results
from statewise.cli._terminal._failure import expects, fail

__all__ = ["JsonFlag", "expects", "fail", "print_json", "remarks", "results"]
