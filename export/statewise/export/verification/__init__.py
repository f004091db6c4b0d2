"""Runs the graphs of a package and compares them with NumPy and with themselves; never changes a package."""

from statewise.export.verification._differences import difference, run
from statewise.export.verification._graph_runners import ReadGraph
from statewise.export.verification._random_batch import draw_sample
from statewise.export.verification._report import Check, Exactness, VerifyReport
from statewise.export.verification._verification import verify_package

__all__ = [
    "Check",
    "Exactness",
    "ReadGraph",
    "VerifyReport",
    "difference",
    "draw_sample",
    "run",
    "verify_package",
]
