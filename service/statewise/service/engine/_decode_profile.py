"""Measures by running a decode loop whether rows may share runs, whether runs may be cut, and their cost.

Corresponds to the engine profile of the read graph; measured at every load, never stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from statewise.service.base import Array
from statewise.service.engine._comparisons import made_up_input
from statewise.service.engine._decode_loop import NOTHING, DecodeLoop, Draw
from statewise.service.engine._engine import Engine
from statewise.service.engine._time_budget import TimeBudget

_ROWS = 16
_STEPS = 12
_CUT = 5
_ROWS_COMPARED = (0, 5, _ROWS - 1)
_FEW_ROWS = 2
"""Rows where time is short: cutting is compared, sharing a run is not."""
_TIMED_ROWS = 64
_REPEATS = 3


@dataclass(frozen=True)
class DecodeProfile:
    """What a decode loop may do on this machine, and what it costs.

    Attributes:
        batchable: Whether a row gives the same bits alone and beside others.
        chunkable: Whether a generation in two runs gives the same bits as in one.
        step_s: Seconds that a step takes, without its rows.
        row_step_s: Seconds that each row adds to a step.
        minimum_rows: Runs of fewer rows are filled up with copies of the last row.
    """

    batchable: bool
    chunkable: bool
    step_s: float
    row_step_s: float
    minimum_rows: int = 1

    def cost_s(self, rows: int, steps: int) -> float:
        """Estimates the seconds that rows will take: in one run, or in a run each if they may not share."""
        if not self.batchable:
            return rows * steps * (self.step_s + self.row_step_s)
        return steps * (self.step_s + rows * self.row_step_s)

    def steps_within(self, seconds: float, rows: int) -> int | None:
        """Computes how many time steps, at least 1, such a run may have; None: generations cannot be cut."""
        return max(1, int(seconds / self.cost_s(rows, 1))) if self.chunkable else None


def profile_decode_loop(
    decode_loop: DecodeLoop, engine: Engine, *, budget: TimeBudget | None = None
) -> tuple[DecodeLoop, DecodeProfile]:
    """Profiles a decode loop; returns the loop to generate with, and its profile.

    The returned loop fills runs of one row up to two where that alone makes a single row exact. Rows of a
    loop that is too slow for all comparisons do not share runs.

    Args:
        decode_loop: The loop as it was made.
        engine: The read graph, whose states the loop starts from.
        budget: How long this may take; None: no limit.

    Raises:
        EngineError: the loop cannot be run at all.
    """
    budget = budget or TimeBudget()
    random = np.random.default_rng(20260101)
    state = _state(decode_loop, engine, _TIMED_ROWS, random)
    draw = _draw(_STEPS, _TIMED_ROWS, random)
    single_s = _time(decode_loop, state, draw, 1, budget)
    has_time = budget.allows(single_s * _STEPS * (_TIMED_ROWS + 4 * _ROWS))
    few = slice(0, _ROWS if has_time else _FEW_ROWS)
    some, own = [array[few] for array in state], draw.rows(few)
    batchable = has_time and _alone_is_batched(decode_loop, some, own)
    if has_time and not batchable and decode_loop.engine.minimum_rows == 1:
        filling = decode_loop.with_minimum_rows(2)
        batchable = _alone_is_batched(filling, some, own)
        if batchable:
            decode_loop = filling
            single_s = _time(decode_loop, state, draw, 1, budget)
    timed_rows = _TIMED_ROWS if has_time else _FEW_ROWS
    many_s = _time(decode_loop, state, draw, timed_rows, budget)
    row_step_s = max(0.0, many_s - single_s) / (timed_rows - 1)
    return decode_loop, DecodeProfile(
        batchable=batchable,
        chunkable=_cut_is_whole(decode_loop, some, own),
        step_s=max(single_s - row_step_s, 1e-7),
        row_step_s=row_step_s,
        minimum_rows=decode_loop.engine.minimum_rows,
    )


def _state(decode_loop: DecodeLoop, engine: Engine, rows: int, random: np.random.Generator) -> list[Array]:
    """Returns states that sessions might be in: after a few steps of made-up input."""
    steps = 3
    fed = decode_loop.spec.input
    inputs = [
        made_up_input(replace(entry, default=None) if entry.name == fed else entry, rows, steps, random)
        for entry in engine.spec.inputs
    ]
    start = [np.repeat(pair.initial_state()[None], rows, axis=0) for pair in engine.spec.state]
    return engine.run(inputs, np.full(rows, steps, np.int32), start)[1]


def _draw(steps: int, rows: int, random: np.random.Generator) -> Draw:
    """Returns rows that differ in how they draw; none stops early."""
    return Draw(
        steps,
        np.full(rows, steps, np.int32),
        random.random((steps, rows), np.float32),
        np.resize(np.array([1, 0, 0.5, 2], np.float32), rows),
        np.resize(np.array([0, 3, 1], np.int32), rows),
        np.full(rows, NOTHING, np.int32),
    )


def _alone_is_batched(decode_loop: DecodeLoop, state: Sequence[Array], draw: Draw) -> bool:
    emitted, after = decode_loop.run(state, draw)
    for row in _ROWS_COMPARED:
        one = slice(row, row + 1)
        own, own_after = decode_loop.run([array[one] for array in state], draw.rows(one))
        if not _same([own, *own_after], [emitted[:, one], *(array[one] for array in after)]):
            return False
    return True


def _cut_is_whole(decode_loop: DecodeLoop, state: Sequence[Array], draw: Draw) -> bool:
    emitted, after = decode_loop.run(state, draw)
    left = draw.remaining - _CUT
    first, middle = decode_loop.run(
        state, replace(draw, steps=_CUT, remaining=np.full_like(left, _CUT), noise=draw.noise[:_CUT])
    )
    rest = replace(draw, steps=draw.steps - _CUT, remaining=left, noise=draw.noise[_CUT:])
    second, end = decode_loop.run(middle, rest)
    return _same([np.concatenate([first, second]), *end], [emitted, *after])


def _same(left: Sequence[Array], right: Sequence[Array]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(left, right, strict=True))


def _time(
    decode_loop: DecodeLoop, state: Sequence[Array], draw: Draw, rows: int, budget: TimeBudget
) -> float:
    """Measures the seconds that a step of so many rows takes."""
    chosen = slice(0, rows)
    own, own_draw = [array[chosen] for array in state], draw.rows(chosen)
    return budget.shortest(partial(decode_loop.run, own, own_draw), repeats=_REPEATS) / draw.steps
