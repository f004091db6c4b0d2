"""Measures by running a decode loop whether rows may share runs, whether runs may be cut, and their cost.

What the engine profile is for the read graph; found at every load, never stored.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from statewise.service.base import Array, padded_shape
from statewise.service.engine._decode_loop import NOTHING, DecodeLoop, Draw
from statewise.service.engine._engine import Engine
from statewise.wire import DTYPES

_ROWS = 16
_STEPS = 12
_CUT = 5
_ROWS_COMPARED = (0, 5, _ROWS - 1)
_TIMED_ROWS = 64


@dataclass(frozen=True)
class DecodeProfile:
    """What a decode loop may do on this machine, and what it costs.

    Attributes:
        batchable: Whether a row gives the same bits alone and beside others.
        chunkable: Whether a generation in two runs gives the same bits as in one.
        step_s: Seconds that a step takes, without its rows.
        row_step_s: Seconds that each row adds to a step.
    """

    batchable: bool
    chunkable: bool
    step_s: float
    row_step_s: float

    def cost_s(self, rows: int, steps: int) -> float:
        """Estimates the seconds that rows will take: in one run, or in a run each if they may not share."""
        if not self.batchable:
            return rows * steps * (self.step_s + self.row_step_s)
        return steps * (self.step_s + rows * self.row_step_s)

    def steps_within(self, seconds: float, rows: int) -> int | None:
        """Computes how many time steps, at least 1, such a run may have; None: generations cannot be cut."""
        return max(1, int(seconds / self.cost_s(rows, 1))) if self.chunkable else None


def profile_decode_loop(
    decode_loop: DecodeLoop, engine: Engine, *, clock: Callable[[], float] = time.perf_counter
) -> tuple[DecodeLoop, DecodeProfile]:
    """Profiles a decode loop; returns the loop to generate with, and its profile.

    The returned loop fills runs of one row up to two where that alone makes a single row exact.

    Args:
        decode_loop: The loop as it was made.
        engine: The read graph, whose states the loop starts from.
        clock: Seconds.

    Raises:
        EngineError: the loop cannot be run at all.
    """
    random = np.random.default_rng(20260101)
    state = _state(decode_loop, engine, _TIMED_ROWS, random)
    draw = _draw(_STEPS, _TIMED_ROWS, random)
    few = slice(0, _ROWS)
    some, own = [array[few] for array in state], draw.rows(few)
    batchable = _alone_is_batched(decode_loop, some, own)
    if not batchable and decode_loop.engine.minimum_rows == 1:
        filling = decode_loop.with_minimum_rows(2)
        batchable = _alone_is_batched(filling, some, own)
        if batchable:
            decode_loop = filling
    one = slice(0, 1)
    single_s = _time(decode_loop, [array[one] for array in state], draw.rows(one), clock)
    many_s = _time(decode_loop, state, draw, clock)
    row_step_s = max(0.0, many_s - single_s) / (_TIMED_ROWS - 1)
    return decode_loop, DecodeProfile(
        batchable=batchable,
        chunkable=_cut_is_whole(decode_loop, some, own),
        step_s=max(single_s - row_step_s, 1e-7),
        row_step_s=row_step_s,
    )


def _state(decode_loop: DecodeLoop, engine: Engine, rows: int, random: np.random.Generator) -> list[Array]:
    """Returns states that sessions might be in: after a few steps of made-up input."""
    steps = 3
    inputs = []
    for entry in engine.spec.inputs:
        shape = padded_shape(entry, rows, steps)
        dtype = DTYPES[entry.dtype]
        if entry.name != decode_loop.spec.input and entry.default is not None:
            inputs.append(np.full(shape, entry.default, dtype))
        elif dtype.kind == "f":
            inputs.append(random.standard_normal(shape).astype(dtype))
        else:
            inputs.append(random.integers(0, entry.vocabulary_size or 2, shape).astype(dtype))
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


def _time(decode_loop: DecodeLoop, state: Sequence[Array], draw: Draw, clock: Callable[[], float]) -> float:
    """Seconds that a step takes: the shortest of some runs, as other work on the machine only adds to it."""
    best = float("inf")
    for _ in range(3):
        begun = clock()
        decode_loop.run(state, draw)
        best = min(best, clock() - begun)
    return best / draw.steps
