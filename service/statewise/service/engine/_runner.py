"""Runs a batch, and row by row where the batch fails, so that the failure of a row stays with that row.

Pure: takes values, gives values, may run in any thread.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, blank_padded, put_padded, take_padded
from statewise.service.engine._engine import Engine, EngineError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunResult:
    """The results of a batch.

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
    """Runs rows in one batch, or each row alone where the batch fails or must not be.

    Rows must not be batched where they may not share a run, or where they are of unequal length and the graph
    takes no lengths.

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
    outputs = blank_padded(spec.outputs, len(lengths), int(lengths.max()))
    result = RunResult(outputs, [array.copy() for array in state], [])
    for row, steps in enumerate(lengths.tolist()):
        one = slice(row, row + 1)
        own = take_padded(spec.inputs, inputs, one, steps=slice(0, steps))
        try:
            own_outputs, successors = engine.run(
                [np.ascontiguousarray(array) for array in own], lengths[one], [array[one] for array in state]
            )
        except EngineError as error:
            _log.error("a row failed when run alone: %s", error)
            result.failed.append(row)
            continue
        put_padded(spec.outputs, outputs, one, own_outputs)
        for kept, array in zip(result.state, successors, strict=True):
            kept[one] = array
    return result
