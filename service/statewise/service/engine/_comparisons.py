"""Compares runs of a graph on made-up input: rows alone and batched, sequences in chunks and whole."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, padded_shape, take_padded
from statewise.service.engine._engine import Engine
from statewise.service.engine._time_budget import TimeBudget
from statewise.wire import DTYPES, TensorSpec

_BATCHES = (2, 3, 7, 16, 64)
_TIME = 9
_ROWS_COMPARED = (0, -1)
_LEAST_DIFFERENCE = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True)
class Differences:
    """The largest differences that were found, relative to the largest number compared. 0: the same bits.

    Attributes:
        batched: Between a row that ran beside others and the row alone.
        stepped: Between a sequence that ran in the shortest chunks and the sequence whole.
        complete: Whether there was time to compare every size of batch.
    """

    batched: float
    stepped: float
    complete: bool

    @property
    def worst(self) -> float:
        """The larger of the two."""
        return max(self.batched, self.stepped)


def compare_runs(engine: Engine, budget: TimeBudget) -> Differences:
    """Compares runs with growing batches. The smallest batch is compared even if the budget is spent."""
    random = np.random.default_rng(20260101)
    batched = stepped = took_s = 0.0
    compared_rows = 1
    for rows in _BATCHES:
        if not budget.allows(took_s * rows / compared_rows):
            return Differences(batched, stepped, complete=False)
        begun_s = budget.clock()
        own_batched, own_stepped = _compare_batch(engine, rows, random)
        batched, stepped = max(batched, own_batched), max(stepped, own_stepped)
        took_s, compared_rows = budget.clock() - begun_s, rows
    return Differences(batched, stepped, complete=True)


def _compare_batch(engine: Engine, rows: int, random: np.random.Generator) -> tuple[float, float]:
    spec = engine.spec
    time_steps = max(_TIME, 2 * spec.least_steps + 1)
    inputs = [made_up_input(entry, rows, time_steps, random) for entry in spec.inputs]
    lengths = random.integers(spec.least_steps, time_steps + 1, rows).astype(np.int32)
    lengths[0] = time_steps
    if spec.lengths is None:
        lengths[:] = time_steps
    state = made_up_state(engine, rows, random)
    inputs, whole = _finite_run(engine, inputs, lengths, state)
    batched = stepped = 0.0
    for row in _ROWS_COMPARED:
        picked = slice(row, row + 1 or None)
        own_inputs = take_padded(spec.inputs, inputs, picked, steps=slice(0, lengths[row]))
        own_state = [array[picked] for array in state]
        alone = _valid(engine, *engine.run(own_inputs, lengths[picked], own_state), lengths[picked])
        batched = max(batched, _difference([values[picked] for values in whole], alone))
        if spec.streamable:
            chunks = _run_in_chunks(engine, own_inputs, own_state, int(lengths[row]))
            stepped = max(stepped, _difference(alone, chunks))
    return batched, stepped


def _finite_run(
    engine: Engine, inputs: list[Array], lengths: NDArray[np.int32], state: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """Returns inputs and results; inputs without signs where fewer results are NaN, as of logarithms."""
    whole = _valid(engine, *engine.run(inputs, lengths, state), lengths)
    if not (missing := _count_nan(whole)):
        return inputs, whole
    positive = [np.abs(array) if array.dtype.kind == "f" else array for array in inputs]
    other = _valid(engine, *engine.run(positive, lengths, state), lengths)
    return (positive, other) if _count_nan(other) < missing else (inputs, whole)


def _count_nan(arrays: Sequence[Array]) -> int:
    return sum(int(np.isnan(array).sum()) for array in arrays)


def _run_in_chunks(
    engine: Engine, inputs: Sequence[Array], state: Sequence[Array], steps: int
) -> list[Array]:
    """Runs one row in the shortest chunks that the graph runs; the last chunk takes the rest, too."""
    chunk = engine.spec.least_steps
    begins = range(0, steps - chunk + 1, chunk)
    outputs_of: list[list[Array]] = []
    for begin in begins:
        end = steps if begin == begins[-1] else begin + chunk
        own = take_padded(engine.spec.inputs, inputs, slice(None), steps=slice(begin, end))
        outputs, state = engine.run(own, np.array([end - begin], np.int32), state)
        outputs_of.append(outputs)
    whole = [
        np.concatenate([outputs[i] for outputs in outputs_of]) if entry.per_step else outputs_of[-1][i]
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
            worst = max(worst, _relative(a.astype(np.float64), b.astype(np.float64)))
    return worst


def _relative(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Computes the largest difference relative to the largest number; NaN agrees with NaN."""
    odd = ~(np.isfinite(a) & np.isfinite(b))
    if not np.array_equal(a[odd], b[odd], equal_nan=True):
        return float("inf")
    a, b = a[~odd], b[~odd]
    if a.tobytes() == b.tobytes():
        return 0.0
    scale = max(1.0, float(np.abs(a).max(initial=0)))
    # Equal values with different bits (a signed zero) count as a difference.
    return max(float(np.abs(a - b).max(initial=0)) / scale, _LEAST_DIFFERENCE)


def made_up_input(entry: TensorSpec, rows: int, time_steps: int, random: np.random.Generator) -> Array:
    """Makes one input of a run, [T, B, ...] or [B, ...]; inputs with a default hold it."""
    shape = padded_shape(entry, rows, time_steps)
    dtype = DTYPES[entry.dtype]
    if entry.default is not None:
        return np.full(shape, entry.default, dtype)
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, entry.vocabulary_size or 2, shape).astype(dtype)


def made_up_state(engine: Engine, rows: int, random: np.random.Generator) -> list[Array]:
    """Makes states a session might be in: small numbers around the initial one."""
    states: list[Array] = []
    for pair in engine.spec.state:
        state: Array = np.repeat(pair.initial_state()[None], rows, axis=0)
        if state.dtype.kind == "f":
            state = (state + 0.5 * random.standard_normal(state.shape)).astype(state.dtype)
        states.append(state)
    return states
