"""Runs the graphs of a package and compares them with NumPy and with themselves; never changes a package."""

from statewise.export.verification._differences import relative_difference, run_batch
from statewise.export.verification._graph_runners import ReadGraphRunner
from statewise.export.verification._random_batch import draw_batch
from statewise.export.verification._report import Check, VerifyReport
from statewise.export.verification._verification import verify_package

__all__ = [
    "Check",
    "ReadGraphRunner",
    "VerifyReport",
    "draw_batch",
    "relative_difference",
    "run_batch",
    "verify_package",
]
