"""One batch through the engine, with the failure of a row kept to that row.

Pure: takes values, gives values, may run in any thread.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array
from statewise.service.engine._engine import Engine, EngineError
from statewise.wire import DTYPES

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a batch gave.

    Attributes:
        outputs: In the spec's order, per-step [T, B, ...], others [B, ...].
        state: Successor states, [B, ...].
        failed: Rows that failed when run alone; their values mean nothing.
    """

    outputs: Sequence[Array]
    state: Sequence[Array]
    failed: list[int]


def run_batch(
    engine: Engine,
    inputs: Sequence[Array],
    lengths: NDArray[np.int32],
    state: Sequence[Array],
    *,
    batchable: bool,
) -> RunResult:
    """Runs rows in one batch, or, where that fails or cannot be, each alone.

    It cannot be where rows may not share a run, or are of unequal length and the graph takes no lengths.

    Args:
        engine: Runs them.
        inputs: Per-step ones [T, B, ...], others [B, ...].
        lengths: Time steps of each row, [B], from 1 to T.
        state: [B, ...].
        batchable: Whether rows may share a run.
    """
    one_length = engine.spec.lengths is not None or bool((lengths == lengths[0]).all())
    if (batchable and one_length) or len(lengths) == 1:
        try:
            outputs, successors = engine.run(inputs, lengths, state)
        except EngineError as error:
            _log.warning("a batch of %d rows failed: %s", len(lengths), error)
        else:
            return RunResult(outputs, successors, [])
    return _run_alone(engine, inputs, lengths, state)


def _run_alone(
    engine: Engine, inputs: Sequence[Array], lengths: NDArray[np.int32], state: Sequence[Array]
) -> RunResult:
    spec = engine.spec
    result = _empty(engine, lengths, state)
    for row, steps in enumerate(lengths.tolist()):
        one = slice(row, row + 1)
        own = [
            np.ascontiguousarray(array[:steps, one]) if entry.per_step else array[one]
            for array, entry in zip(inputs, spec.inputs, strict=True)
        ]
        try:
            outputs, successors = engine.run(own, lengths[one], [array[one] for array in state])
        except EngineError as error:
            _log.error("a row failed when run alone: %s", error)
            result.failed.append(row)
            continue
        for kept, array, entry in zip(result.outputs, outputs, spec.outputs, strict=True):
            if entry.per_step:
                kept[:steps, one] = array
            else:
                kept[one] = array
        for kept, array in zip(result.state, successors, strict=True):
            kept[one] = array
    return result


def _empty(engine: Engine, lengths: NDArray[np.int32], state: Sequence[Array]) -> RunResult:
    rows, longest = len(lengths), int(lengths.max())
    outputs = [
        np.zeros(
            (longest, rows, *entry.shape) if entry.per_step else (rows, *entry.shape), DTYPES[entry.dtype]
        )
        for entry in engine.spec.outputs
    ]
    return RunResult(outputs, [array.copy() for array in state], [])
