"""The same rows run in different ways: how far are the results apart?

Not a judgement: differences are numbers, relative to the largest reference, and 0 means the same bits.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.export.verification._graph_runners import ReadGraph
from statewise.export.verification._random_batch import Sample

Array = NDArray[Any]

_OTHER_BITS = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Outcome:
    """y [T, B, O] or [B, O], and the state after it."""

    y: Array
    state: Array | None


def run(graph: ReadGraph, sample: Sample) -> Outcome:
    """Runs all rows of a sample at once."""
    y, state = graph.run(sample.x, sample.lengths, sample.state)
    return Outcome(y, state)


def difference(reference: Array, found: Array) -> float:
    """Largest difference relative to the largest reference; infinite for what is no number."""
    if reference.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    if reference.tobytes() == found.tobytes():
        return 0.0
    scale = float(np.abs(reference).max()) or 1.0
    # Zeros of different sign are other bits, though no other number.
    return max(float(np.abs(reference.astype(np.float64) - found).max()) / scale, _OTHER_BITS)


def step_difference(graph: ReadGraph, sample: Sample) -> float:
    """Largest difference between the longest row in one run, and the same row in a run a step."""
    row = sample.row(int(np.argmax(sample.lengths)))
    whole = run(graph, row)
    state = row.state
    outputs = []
    for step in row.x[:, None]:
        y, state = graph.run(step, np.array([1]), state)
        outputs.append(y)
    stepped = np.concatenate(outputs) if sample.per_step_output else outputs[-1]
    assert whole.state is not None, "a streamable graph returns its state"
    assert state is not None, "a streamable graph returns its state"
    return max(difference(whole.y, stepped), difference(whole.state, state))


def batch_difference(graphs: list[ReadGraph], sample: Sample) -> float:
    """Largest difference of a row alone to itself in batches: of other sizes, neighbours, places, threads."""
    rows = len(sample.lengths)
    worst = 0.0
    for index in range(rows):
        alone = run(graphs[0], sample.row(index))
        for size in (2, 3, rows):
            place = index % size
            members = [(index + 1 + offset) % rows for offset in range(size - 1)]
            members.insert(place, index)
            batch = sample.rows(members, loud_except=index)
            for graph in graphs:
                worst = max(worst, _row_difference(sample, index, alone, place, run(graph, batch)))
    return worst


def _row_difference(sample: Sample, index: int, alone: Outcome, place: int, batched: Outcome) -> float:
    steps = int(sample.lengths[index])
    if sample.per_step_output:
        worst = difference(alone.y[:, 0], batched.y[:steps, place])
    else:
        worst = difference(alone.y[0], batched.y[place])
    if alone.state is not None and batched.state is not None:
        worst = max(worst, difference(alone.state[0], batched.state[place]))
    return worst
