"""Measures how far results differ when the same rows run in different ways.

Differences are numbers relative to the largest reference; 0 means the same bits. Bounds and verdicts are set
in `_verification`.
"""

from dataclasses import dataclass

import numpy as np

from statewise.export.base import Array
from statewise.export.verification._graph_runners import ReadGraphRunner
from statewise.export.verification._random_batch import RandomBatch

_OTHER_BITS = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class ReadResult:
    """Outputs y [T, B, O] or [B, O], and the state [B, S] after them."""

    y: Array
    state: Array | None


def run_batch(graph: ReadGraphRunner, batch: RandomBatch) -> ReadResult:
    """Runs all rows of a batch at once."""
    y, state = graph.run(batch.x, batch.lengths, batch.state)
    return ReadResult(y, state)


def relative_difference(reference: Array, found: Array) -> float:
    """Largest difference relative to the largest reference; infinite for other shapes, NaN and infinities."""
    if reference.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    if reference.tobytes() == found.tobytes():
        return 0.0
    scale = float(np.abs(reference).max()) or 1.0
    # 0.0 and -0.0 are equal numbers of different bits.
    return max(float(np.abs(reference.astype(np.float64) - found).max()) / scale, _OTHER_BITS)


def step_difference(graph: ReadGraphRunner, batch: RandomBatch) -> float:
    """Largest difference between the longest row in one run and the same row in one run a step."""
    row = batch.row(int(np.argmax(batch.lengths)))
    whole = run_batch(graph, row)
    state = row.state
    outputs = []
    for step in row.x[:, None]:
        y, state = graph.run(step, np.array([1]), state)
        outputs.append(y)
    stepped = np.concatenate(outputs) if batch.per_step_output else outputs[-1]
    assert whole.state is not None, "a streamable graph returns its state"
    assert state is not None, "a streamable graph returns its state"
    return max(relative_difference(whole.y, stepped), relative_difference(whole.state, state))


def batch_difference(graphs: list[ReadGraphRunner], batch: RandomBatch) -> float:
    """Largest difference of a row alone to the row in batches of other sizes, neighbours and threads."""
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
    if batch.per_step_output:
        worst = relative_difference(alone.y[:, 0], shared.y[:steps, index])
    else:
        worst = relative_difference(alone.y[0], shared.y[index])
    if alone.state is not None and shared.state is not None:
        worst = max(worst, relative_difference(alone.state[0], shared.state[index]))
    return worst
