"""Measures by running a graph whether sessions may share runs of it, and what a run costs.

Not a comparison with the training side (that is `statewise verify`). The outcome depends on processor and
library, so it is found at every load and never stored.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, padded_shape, take_padded
from statewise.service.engine._engine import Engine
from statewise.wire import DTYPES, Exactness, Sharing, TensorSpec

_BATCHES = (2, 3, 7, 16, 64)
_TIME = 9
_ROWS_COMPARED = (0, -1)
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class EngineProfile:
    """What a graph may do on this machine, and what its runs cost.

    Attributes:
        exactness: How far rows of one run influence each other.
        chunkable: Whether a sequence gives the same bits run in parts as run whole.
        run_s: Seconds that a run of one row and step takes.
        row_step_s: Seconds that each row and step adds in a large batch.
        batchable: Whether rows of different sessions may share a run.
    """

    exactness: Exactness
    chunkable: bool
    run_s: float
    row_step_s: float
    batchable: bool

    def cost_s(self, rows: int, steps: int) -> float:
        """Estimates the seconds that rows will take: in one run, or in a run each if they may not share."""
        if not self.batchable:
            return rows * (self.run_s + steps * self.row_step_s)
        return self.run_s + rows * steps * self.row_step_s

    def steps_within(self, seconds: float, rows: int) -> int | None:
        """Computes how many time steps, at least 1, such a run may have; None: sequences cannot be cut."""
        return max(1, int(seconds / (rows * self.row_step_s))) if self.chunkable else None


def profile_engine(
    engine: Engine, *, sharing: Sharing = Sharing.EXACT, clock: Callable[[], float] = time.perf_counter
) -> tuple[Engine, EngineProfile]:
    """Profiles a graph; returns the engine to run it with, and the profile of that engine.

    A graph that is inexact only for a run of one row (the one-row path of a matrix product) becomes exact
    when such runs are filled up to two rows. The returned engine fills them where this makes the graph more
    exact.

    Args:
        engine: The graph as it was loaded.
        sharing: Which classes of exactness let rows share a run.
        clock: Seconds.

    Raises:
        EngineError: the graph cannot be run at all.
    """
    difference, step_difference = _differences(engine)
    if difference or step_difference:
        filling = engine.with_minimum_rows(2)
        filled = _differences(filling)
        if sum(filled) < difference + step_difference:
            engine = filling
            difference, step_difference = filled
    worst = max(difference, step_difference)
    if worst == 0:
        exactness = Exactness.EXACT
    else:
        exactness = Exactness.TOLERANCE if worst < _TOLERANCE else Exactness.UNSAFE
    return engine, EngineProfile(
        exactness=exactness,
        chunkable=engine.spec.streamable and step_difference == 0,
        run_s=_time(engine, rows=1, steps=1, clock=clock),
        row_step_s=_time(engine, rows=64, steps=16, clock=clock) / (64 * 16),
        batchable=exactness is Exactness.EXACT
        or (sharing is Sharing.TOLERANCE and exactness is Exactness.TOLERANCE),
    )


def _differences(engine: Engine) -> tuple[float, float]:
    """Largest relative differences: batched against alone, step by step against whole. 0: the same bits."""
    random = np.random.default_rng(20260101)
    batched = stepped = 0.0
    for rows in _BATCHES:
        inputs = [_sample(entry, rows, _TIME, random) for entry in engine.spec.inputs]
        lengths = random.integers(1, _TIME + 1, rows).astype(np.int32)
        lengths[0] = _TIME
        if engine.spec.lengths is None:
            lengths[:] = _TIME
        state = _state(engine, rows, random)
        whole = _valid(engine, *engine.run(inputs, lengths, state), lengths)
        for row in _ROWS_COMPARED:
            picked = slice(row, row + 1 or None)
            own_inputs = take_padded(engine.spec.inputs, inputs, picked, steps=slice(0, lengths[row]))
            own_state = [array[picked] for array in state]
            alone = _valid(engine, *engine.run(own_inputs, lengths[picked], own_state), lengths[picked])
            batched = max(batched, _difference([values[picked] for values in whole], alone))
            if engine.spec.streamable:
                steps = _step_by_step(engine, own_inputs, own_state, int(lengths[row]))
                stepped = max(stepped, _difference(alone, steps))
    return batched, stepped


def _step_by_step(engine: Engine, inputs: Sequence[Array], state: Sequence[Array], steps: int) -> list[Array]:
    one = np.ones(1, np.int32)
    by_step: list[list[Array]] = []
    for t in range(steps):
        step_inputs = take_padded(engine.spec.inputs, inputs, slice(None), steps=slice(t, t + 1))
        outputs, state = engine.run(step_inputs, one, state)
        by_step.append(outputs)
    whole = [
        np.concatenate([outputs[i] for outputs in by_step]) if entry.per_step else by_step[-1][i]
        for i, entry in enumerate(engine.spec.outputs)
    ]
    return _valid(engine, whole, state, np.array([steps], np.int32))


def _valid(
    engine: Engine, outputs: Sequence[Array], state: Sequence[Array], lengths: NDArray[np.int32]
) -> list[Array]:
    """Returns outputs, batch-first and 0 past each row's length ([B, T, ...] or [B, ...]), and the states."""
    values: list[Array] = []
    for array, entry in zip(outputs, engine.spec.outputs, strict=True):
        if entry.per_step:
            batch_first = np.swapaxes(array, 0, 1).copy()
            batch_first[np.arange(batch_first.shape[1]) >= lengths[:, None]] = 0
            values.append(batch_first[:, : lengths.max()])
        else:
            values.append(array)
    return values + list(state)


def _difference(left: Sequence[Array], right: Sequence[Array]) -> float:
    worst = 0.0
    for a, b in zip(left, right, strict=True):
        steps = min(a.shape[1], b.shape[1]) if a.ndim > 1 else 0
        a, b = (a[:, :steps], b[:, :steps]) if a.ndim > 1 else (a, b)
        if a.tobytes() != b.tobytes():
            scale = max(1.0, float(np.abs(a.astype(np.float64)).max()))
            gap = np.abs(a.astype(np.float64) - b.astype(np.float64)).max()
            # Bits that differ and values that do not (a signed zero) still differ.
            worst = max(worst, float(gap) / scale, np.finfo(np.float64).tiny)
    return worst


def _sample(entry: TensorSpec, rows: int, time_steps: int, random: np.random.Generator) -> Array:
    shape = padded_shape(entry, rows, time_steps)
    dtype = DTYPES[entry.dtype]
    if entry.default is not None:
        return np.full(shape, entry.default, dtype)
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, entry.vocabulary_size or 2, shape).astype(dtype)


def _state(engine: Engine, rows: int, random: np.random.Generator) -> list[Array]:
    """Returns states a session might be in: small numbers around the initial one."""
    states: list[Array] = []
    for pair in engine.spec.state:
        state: Array = np.repeat(pair.initial_state()[None], rows, axis=0)
        if state.dtype.kind == "f":
            state = (state + 0.5 * random.standard_normal(state.shape)).astype(state.dtype)
        states.append(state)
    return states


def _time(engine: Engine, *, rows: int, steps: int, clock: Callable[[], float]) -> float:
    """Seconds that a run takes: the shortest of some runs, as other work on the machine only adds to it."""
    random = np.random.default_rng(1)
    inputs = [_sample(entry, rows, steps, random) for entry in engine.spec.inputs]
    lengths = np.full(rows, steps, np.int32)
    state = _state(engine, rows, random)
    best = float("inf")
    for _ in range(5):
        begun = clock()
        engine.run(inputs, lengths, state)
        best = min(best, clock() - begun)
    return best
