"""Finds inputs on which a graph gives numbers: results that are NaN agree with NaN, and show nothing more.

Some graphs, as those that take logarithms, have no results for inputs below 0.
"""

from dataclasses import replace

import numpy as np

from statewise.export.base import Array
from statewise.export.verification._differences import ReadResult, run_batch
from statewise.export.verification._graph_runners import ReadGraphRunner
from statewise.export.verification._random_batch import RandomBatch


def with_finite_results(graph: ReadGraphRunner, batch: RandomBatch) -> RandomBatch:
    """Returns the batch, or the batch without signs where fewer of its results are NaN."""
    missing = _count_nan(batch, run_batch(graph, batch))
    if not missing:
        return batch
    inputs = tuple(
        np.abs(array) if array.dtype.kind == "f" else array  # not of integers: the lowest one has no opposite
        for array in batch.inputs
    )
    positive = replace(batch, inputs=inputs)
    return positive if _count_nan(positive, run_batch(graph, positive)) < missing else batch


def results_without_numbers(batch: RandomBatch, result: ReadResult) -> list[str]:
    """Names the outputs and states of a result that are NaN throughout, so that nothing can be compared."""
    names = [f"output {tensor.name!r}" for tensor in batch.spec.outputs]
    names += [f"state {pair.output!r}" for pair in batch.spec.state]
    arrays = _valid(batch, result)
    return [name for name, array in zip(names, arrays, strict=True) if array.size and np.isnan(array).all()]


def _count_nan(batch: RandomBatch, result: ReadResult) -> int:
    return sum(int(np.isnan(array).sum()) for array in _valid(batch, result))


def _valid(batch: RandomBatch, result: ReadResult) -> list[Array]:
    return [*(batch.valid(index, output) for index, output in enumerate(result.outputs)), *result.state]
