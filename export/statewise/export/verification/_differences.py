"""Measures how far results differ when the same rows run in different ways.

Differences are numbers relative to the largest reference; 0 means the same bits, or NaN in both. Bounds and
verdicts are set in `_verification`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from statewise.export.base import Array
from statewise.export.verification._graph_runners import ReadGraphRunner
from statewise.export.verification._random_batch import RandomBatch

_OTHER_BITS = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class ReadResult:
    """Outputs [T, B, ...] or [B, ...], and the states [B, ...] after them."""

    outputs: tuple[Array, ...]
    state: tuple[Array, ...]


def run_batch(graph: ReadGraphRunner, batch: RandomBatch) -> ReadResult:
    """Runs all rows of a batch at once."""
    return ReadResult(*graph.run(batch.inputs, batch.lengths, batch.state))


def run_in_chunks(graph: ReadGraphRunner, batch: RandomBatch) -> ReadResult:
    """Runs rows of one length a step at a time, or in the smallest chunks that the graph runs."""
    length, least = int(batch.lengths[0]), batch.spec.least_steps
    begins = range(0, length - least + 1, least)  # the last chunk also takes the rest
    chunks = []
    for begin, end in zip(begins, [*begins[1:], length], strict=True):
        result = run_batch(graph, batch.steps(begin, end))
        batch = replace(batch, state=result.state)
        chunks.append(result.outputs)
    outputs = [
        np.concatenate([chunk[index] for chunk in chunks]) if tensor.per_step else chunks[-1][index]
        for index, tensor in enumerate(batch.spec.outputs)
    ]
    return ReadResult(tuple(outputs), batch.state)


def relative_difference(reference: Array, found: Array) -> float:
    """Computes the largest difference relative to the largest finite reference.

    NaN and infinities agree with themselves in the same place. Infinite for other shapes, and for NaN and
    infinities that only one of the two has.
    """
    if reference.shape != found.shape:
        return float("inf")
    if reference.tobytes() == found.tobytes():
        return 0.0
    finite = np.isfinite(reference)
    same = np.isclose(reference[~finite], found[~finite], equal_nan=True)
    if not same.all() or not np.isfinite(found[finite]).all():
        return float("inf")
    if reference[finite].tobytes() == found[finite].tobytes():
        return 0.0
    # 0.0 and -0.0 are equal numbers of different bits.
    wide = reference[finite].astype(np.float64)
    scale = float(np.abs(wide).max()) or 1.0
    return max(float(np.abs(wide - found[finite]).max()) / scale, _OTHER_BITS)


def largest_difference(reference: Sequence[Array], found: Sequence[Array]) -> float:
    """Returns the largest of several differences; 0 for none."""
    pairs = zip(reference, found, strict=True)
    return max((relative_difference(one, other) for one, other in pairs), default=0.0)


def step_difference(graph: ReadGraphRunner, batch: RandomBatch) -> float:
    """Largest difference between the longest row in one run and the same row in one run a step."""
    row = batch.row(int(np.argmax(batch.lengths)))
    whole, stepped = run_batch(graph, row), run_in_chunks(graph, row)
    return max(
        largest_difference(whole.outputs, stepped.outputs), largest_difference(whole.state, stepped.state)
    )


def batch_difference(graphs: list[ReadGraphRunner], batch: RandomBatch) -> float:
    """Computes how far a row alone differs from it in batches of other sizes, neighbours and threads."""
    rows = len(batch.lengths)
    worst = 0.0
    for row in range(rows):
        alone = run_batch(graphs[0], batch.row(row))
        for size in (2, 3, rows):
            index = row % size
            members = [(row + 1 + offset) % rows for offset in range(size - 1)]
            members.insert(index, row)
            shared = batch.rows(members, loud_except=row)
            for graph in graphs:
                result = run_batch(graph, shared)
                worst = max(worst, _row_difference(batch, row, alone, index, result))
    return worst


def _row_difference(batch: RandomBatch, row: int, alone: ReadResult, index: int, shared: ReadResult) -> float:
    """Of a row of the batch run alone to the row at `index` of a shared run."""
    steps = int(batch.lengths[row])
    worst = largest_difference([one[0] for one in alone.state], [one[index] for one in shared.state])
    for tensor, expected, found in zip(batch.spec.outputs, alone.outputs, shared.outputs, strict=True):
        if tensor.per_step:
            worst = max(worst, relative_difference(expected[:, 0], found[:steps, index]))
        else:
            worst = max(worst, relative_difference(expected[0], found[index]))
    return worst
