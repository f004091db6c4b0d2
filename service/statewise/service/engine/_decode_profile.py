"""What generating does on this machine, found by running it: may rows share a run, may a run be cut, and what
does it cost?

As selftest does it for the read graph; found at every load, never stored.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from statewise.service.base import Array
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
    """What the test found; a Pace.

    Attributes:
        batchable: Whether rows leave each other alone, bit for bit.
        chunkable: Whether a generation in two runs gives the same bits as in one.
        step_s: Seconds that a step takes, however few rows it has.
        row_step_s: Seconds that each row adds to it.
    """

    batchable: bool
    chunkable: bool
    step_s: float
    row_step_s: float

    def cost_s(self, rows: int, steps: int) -> float:
        """See Pace."""
        if not self.batchable:
            return rows * steps * (self.step_s + self.row_step_s)
        return steps * (self.step_s + rows * self.row_step_s)

    def steps_within(self, seconds: float, rows: int) -> int | None:
        """See Pace."""
        return max(1, int(seconds / self.cost_s(rows, 1))) if self.chunkable else None


def profile_decode_loop(
    feedback: DecodeLoop, engine: Engine, *, clock: Callable[[], float] = time.perf_counter
) -> DecodeProfile:
    """Tests a feedback, and sets its engine's `minimum_rows` where that makes a lone row exact.

    Args:
        feedback: What generates.
        engine: The read graph, whose states it starts from.
        clock: Seconds.

    Raises:
        EngineError: it cannot be run at all.
    """
    random = np.random.default_rng(20260101)
    state = _state(feedback, engine, _TIMED_ROWS, random)
    draw = _draw(feedback, _STEPS, _TIMED_ROWS, random)
    few = slice(0, _ROWS)
    some, own = [array[few] for array in state], draw.rows(few)
    batchable = _alone_is_batched(feedback, some, own)
    if not batchable and feedback.engine.minimum_rows == 1:
        feedback.engine.minimum_rows = 2
        batchable = _alone_is_batched(feedback, some, own)
        if not batchable:
            feedback.engine.minimum_rows = 1
    one = slice(0, 1)
    lone_s = _time(feedback, [array[one] for array in state], draw.rows(one), clock)
    many_s = _time(feedback, state, draw, clock)
    row_step_s = max(0.0, many_s - lone_s) / (_TIMED_ROWS - 1)
    return DecodeProfile(
        batchable=batchable,
        chunkable=_cut_is_whole(feedback, some, own),
        step_s=max(lone_s - row_step_s, 1e-7),
        row_step_s=row_step_s,
    )


def _state(feedback: DecodeLoop, engine: Engine, rows: int, random: np.random.Generator) -> list[Array]:
    """States that sessions might be in: a few steps of made-up input after the beginning."""
    steps = 3
    inputs = []
    for entry in engine.spec.inputs:
        shape = (steps, rows, *entry.shape) if entry.per_step else (rows, *entry.shape)
        dtype = DTYPES[entry.dtype]
        if entry.name != feedback.spec.input and entry.default is not None:
            inputs.append(np.full(shape, entry.default, dtype))
        elif dtype.kind == "f":
            inputs.append(random.standard_normal(shape).astype(dtype))
        else:
            inputs.append(random.integers(0, entry.vocabulary_size or 2, shape).astype(dtype))
    start = [np.full((rows, *p.shape), p.initial, DTYPES[p.dtype]) for p in engine.spec.state]
    return engine.run(inputs, np.full(rows, steps, np.int32), start)[1]


def _draw(feedback: DecodeLoop, steps: int, rows: int, random: np.random.Generator) -> Draw:
    """Rows that differ in how they draw; none stops early."""
    return Draw(
        steps,
        np.full(rows, steps, np.int32),
        random.random((steps, rows), np.float32),
        np.resize(np.array([1, 0, 0.5, 2], np.float32), rows),
        np.resize(np.array([0, 3, 1], np.int32), rows),
        np.full(rows, NOTHING, np.int32),
    )


def _alone_is_batched(feedback: DecodeLoop, state: Sequence[Array], draw: Draw) -> bool:
    emitted, after = feedback.run(state, draw)
    for row in _ROWS_COMPARED:
        one = slice(row, row + 1)
        own, own_after = feedback.run([array[one] for array in state], draw.rows(one))
        if not _same([own, *own_after], [emitted[:, one], *(array[one] for array in after)]):
            return False
    return True


def _cut_is_whole(feedback: DecodeLoop, state: Sequence[Array], draw: Draw) -> bool:
    emitted, after = feedback.run(state, draw)
    left = draw.remaining - _CUT
    first, middle = feedback.run(
        state, replace(draw, steps=_CUT, remaining=np.full_like(left, _CUT), noise=draw.noise[:_CUT])
    )
    rest = replace(draw, steps=draw.steps - _CUT, remaining=left, noise=draw.noise[_CUT:])
    second, end = feedback.run(middle, rest)
    return _same([np.concatenate([first, second]), *end], [emitted, *after])


def _same(left: Sequence[Array], right: Sequence[Array]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(left, right, strict=True))


def _time(feedback: DecodeLoop, state: Sequence[Array], draw: Draw, clock: Callable[[], float]) -> float:
    """Seconds a step takes; the best of some runs: the cost without the machine's other work."""
    best = float("inf")
    for _ in range(3):
        begun = clock()
        feedback.run(state, draw)
        best = min(best, clock() - begun)
    return best / draw.steps
