"""Generates values slice by slice, in the same queue as the sequences that are read.

No sessions, texts or messages. Each slice's values are passed on at once; the states stay in the job until it
is done.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, ServiceError
from statewise.service.engine import (
    NOTHING,
    DecodeLoop,
    Draw,
    Engine,
    EngineError,
    RunResult,
    Sampling,
    uniform_numbers,
)
from statewise.service.scheduling.jobs._job import CostModel, Job, JobSlice, SliceMember
from statewise.wire import DTYPES

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmittedChunk:
    """The values that some rows emitted in one slice.

    Attributes:
        rows: Which rows.
        lengths: Values of each of them, uint32, at least 1; 0 for a row that had ended before.
        values: [sum(lengths), ...], the rows one after another.
        positions: Time steps that each has consumed by now, uint64.
        ended: Which of them will emit no more, bool.
    """

    rows: NDArray[np.intp]
    lengths: NDArray[np.uint32]
    values: Array
    positions: NDArray[np.uint64]
    ended: NDArray[np.bool_]


class GenerationJob(Job):
    """Rows and what they still emit.

    Args:
        decode_loop: Runs the rows.
        cost_model: What running them costs.
        state: [rows, ...] for each state that sessions keep.
        positions: Time steps consumed before, uint64 [rows].
        steps: Values that each row emits at most, uint32 [rows], each at least 1.
        sampling: How values are drawn.
        stop: The value that ends a row; None: none does.
        on_chunk: Takes the values of each slice; must not raise.
        done: See Job.
        is_cancelled: See Job.
        deadline_s: See Job.
    """

    def __init__(
        self,
        decode_loop: DecodeLoop,
        cost_model: CostModel,
        *,
        state: Sequence[Array],
        positions: NDArray[np.uint64],
        steps: NDArray[np.uint32],
        sampling: Sampling,
        stop: int | None,
        on_chunk: Callable[[EmittedChunk], None],
        done: "Callable[[GenerationJob, ServiceError | None], None]",
        is_cancelled: Callable[[], bool],
        deadline_s: float | None,
    ) -> None:
        super().__init__(done=done, is_cancelled=is_cancelled, deadline_s=deadline_s)
        self.decode_loop = decode_loop
        self.cost_model = cost_model
        self.state = [array.copy() for array in state]
        self.start = positions
        self.sampling = sampling
        self.stop = NOTHING if stop is None else stop
        self.on_chunk = on_chunk
        self.time_steps = int(steps.sum(dtype=np.int64))
        self.left = steps.astype(np.int32)
        """Values that each row still emits."""
        self.emitted = np.zeros(len(steps), np.int64)
        self.consumed = np.zeros(len(steps), np.uint64)
        """Number of emitted values that each row has consumed: all, except a value that ended the row."""
        self.failed: set[int] = set()
        """Rows whose run failed even alone, and those of `nonfinite`."""
        self.nonfinite: set[int] = set()
        """Rows that came to a number that is not finite, which cannot be fed back."""

    @property
    def remaining(self) -> int:
        """Values that the longest row still has to emit."""
        return int(self.left.max())

    @property
    def active(self) -> int:
        """Rows that still emit."""
        return int(np.count_nonzero(self.left))

    def slice_with(self, members: list[SliceMember[Any]], steps: int) -> "GenerationSlice":
        """See Job."""
        return GenerationSlice(members, steps)

    def draw(self, rows: NDArray[np.intp], steps: int) -> Draw:
        """Returns how rows emit their next values."""
        chosen = self.sampling.rows(rows)
        remaining = np.minimum(self.left[rows], np.int32(steps))
        noise = np.zeros((steps, len(rows)), np.float32)
        if self.decode_loop.spec.sampled:
            noise = uniform_numbers(chosen.seed, self.start[rows] + self.consumed[rows], steps)
        stop = np.full(len(rows), self.stop, np.int32)
        return Draw(steps, remaining, noise, chosen.temperature, chosen.top_k, stop)

    def absorb(
        self,
        rows: NDArray[np.intp],
        steps: int,
        emitted: Array,
        state: Sequence[Array],
        failed: Sequence[int],
    ) -> None:
        """Takes the results of a slice: values [N, rows, ...], states, and which of the rows failed."""
        requested = np.minimum(self.left[rows], steps)
        if self.decode_loop.spec.sampled:
            lengths = (emitted != NOTHING).sum(axis=0)
            last = emitted[np.maximum(lengths - 1, 0), np.arange(len(rows))]
            stopped = (lengths > 0) & (last == self.stop)
        else:
            lengths, stopped = requested.astype(np.int64), np.zeros(len(rows), np.bool_)
            finite = np.isfinite(emitted).reshape(len(emitted), len(rows), -1).all(axis=(0, 2))
            beyond = np.setdiff1d(np.flatnonzero(~finite), failed)
            self.nonfinite.update(rows[beyond].tolist())
            failed = [*failed, *beyond.tolist()]
        good = np.ones(len(rows), np.bool_)
        good[list(failed)] = False
        self.failed.update(rows[~good].tolist())
        for kept, array in zip(self.state, state, strict=True):
            kept[rows] = array
        self.left[rows] = np.where(good & ~stopped, self.left[rows] - requested, 0)
        rows, lengths, stopped = rows[good], lengths[good], stopped[good]
        self.emitted[rows] += lengths
        self.consumed[rows] += (lengths - stopped).astype(np.uint64)
        self.time += steps
        if not len(rows):
            return
        by_row = np.swapaxes(emitted, 0, 1)[good]
        values = by_row[np.arange(by_row.shape[1]) < lengths[:, None]]
        positions = self.start[rows] + self.consumed[rows]
        self.on_chunk(EmittedChunk(rows, lengths.astype(np.uint32), values, positions, self.left[rows] == 0))


class GenerationSlice(JobSlice[GenerationJob]):
    """Some values of some generation jobs."""

    __slots__ = ()

    @property
    def time_steps(self) -> int:
        """See JobSlice."""
        return int(sum(np.minimum(member.job.left, self.steps).sum() for member in self.members))

    def run(self, engine: Engine, *, batchable: bool) -> RunResult:
        """See JobSlice. The jobs' decode loop runs, and their cost model says whether rows share a run."""
        first = self.members[0].job
        active = [np.flatnonzero(member.job.left) for member in self.members]
        steps = min(self.steps, max(member.job.remaining for member in self.members))
        draws = [member.job.draw(rows, steps) for member, rows in zip(self.members, active, strict=True)]
        draw = draws[0] if len(draws) == 1 else _side_by_side(steps, draws)
        states = [
            [array[rows] for array in member.job.state]
            for member, rows in zip(self.members, active, strict=True)
        ]
        state = [np.concatenate(arrays) for arrays in zip(*states, strict=True)]
        rows = len(draw.remaining)
        if rows == 1 or (first.cost_model is not None and first.cost_model.batchable):
            try:
                emitted, after = first.decode_loop.run(state, draw)
            except EngineError as error:
                _log.warning("generating %d rows failed: %s", rows, error)
            else:
                return RunResult([emitted], after, [])
        return _run_alone(first.decode_loop, state, draw)

    def distribute(self, engine: Engine, result: RunResult) -> None:
        """See JobSlice."""
        for member in self.members:
            member.job.absorb(
                np.flatnonzero(member.job.left),
                self.steps,
                result.outputs[0][:, member.run_rows],
                [array[member.run_rows] for array in result.state],
                member.failed(result),
            )


def _side_by_side(steps: int, draws: Sequence[Draw]) -> Draw:
    return Draw(
        steps,
        np.concatenate([draw.remaining for draw in draws]),
        np.concatenate([draw.noise for draw in draws], axis=1),
        np.concatenate([draw.temperature for draw in draws]),
        np.concatenate([draw.top_k for draw in draws]),
        np.concatenate([draw.stop for draw in draws]),
    )


def _run_alone(decode_loop: DecodeLoop, state: Sequence[Array], draw: Draw) -> RunResult:
    """Runs each row alone; rows that fail keep their state and emit nothing."""
    spec, rows = decode_loop.spec, len(draw.remaining)
    nothing = NOTHING if spec.sampled else 0
    emitted = np.full((draw.steps, rows, *spec.emitted.shape), nothing, DTYPES[spec.emitted.dtype])
    result = RunResult([emitted], [array.copy() for array in state], [])
    for row in range(rows):
        one = slice(row, row + 1)
        try:
            values, after = decode_loop.run([array[one] for array in state], draw.rows(one))
        except EngineError as error:
            _log.error("a row failed when it generated alone: %s", error)
            result.failed.append(row)
            continue
        emitted[: len(values), one] = values
        for kept, array in zip(result.state, after, strict=True):
            kept[one] = array
    return result
