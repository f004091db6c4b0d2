"""Runs a package's graphs and compares the results with NumPy's and with each other; changes no package."""

from statewise.export.verification._differences import (
    ReadResult,
    batch_difference,
    largest_difference,
    relative_difference,
    run_batch,
    step_difference,
)
from statewise.export.verification._finite_results import results_without_numbers, with_finite_results
from statewise.export.verification._graph_runners import ReadGraphRunner
from statewise.export.verification._random_batch import RandomBatch, draw_batch
from statewise.export.verification._report import Check, VerifyReport
from statewise.export.verification._verification import spec_bound, verify

__all__ = [
    "Check",
    "RandomBatch",
    "ReadGraphRunner",
    "ReadResult",
    "VerifyReport",
    "batch_difference",
    "draw_batch",
    "largest_difference",
    "relative_difference",
    "results_without_numbers",
    "run_batch",
    "spec_bound",
    "step_difference",
    "verify",
    "with_finite_results",
]
