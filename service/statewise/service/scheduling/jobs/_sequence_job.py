"""Runs many time steps of given sequences: the rows of a Predict bucket, or of a step request with chunks.

A job keeps its rows longest first and padded to the longest, so that the rows which still run are always the
first ones, and a slice takes no copy of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import (
    Array,
    Indices,
    RaggedColumns,
    ServiceError,
    blank_padded,
    take_padded,
)
from statewise.service.engine import Engine, RunResult, run_batch
from statewise.service.scheduling.jobs._job import Job, JobSlice, SliceMember
from statewise.wire import ModelSpec


@dataclass(frozen=True, slots=True)
class ReachedState:
    """What a row has come to on its way.

    Attributes:
        row: Which row, in request order.
        steps: Time steps that the job has run of it.
        state: In the spec's order, [...] each; the caller's own.
        last: Outputs that are not per step, [...] each; the caller's own.
        outputs: Outputs that are per step, of all steps up to there, [steps, ...] each; views.
    """

    row: int
    steps: int
    state: list[Array]
    last: list[Array]
    outputs: list[Array]


@dataclass(frozen=True, slots=True)
class Capture:
    """Which states on the way are wanted.

    Attributes:
        rows: By the number of time steps, which rows are wanted there, in request order; no row ends before.
        on_state: Takes them, on the event loop; must not raise.
    """

    rows: Mapping[int, Sequence[int]]
    on_state: Callable[[ReachedState], None]


class SequenceJob(Job):
    """Rows, their inputs and states, and how far they have come.

    Args:
        spec: The model's.
        inputs: Inputs of a request, with lengths.
        rows: Which rows of the request the job runs, each of at least one time step; None: all.
        state: In the spec's order, [rows, ...], in the order of `rows`.
        done: See Job.
        is_cancelled: See Job.
        deadline_s: See Job.
        capture: Which states on the way are wanted; None: none is.
    """

    def __init__(
        self,
        spec: ModelSpec,
        inputs: RaggedColumns,
        rows: Indices | None = None,
        *,
        state: Sequence[Array],
        done: "Callable[[SequenceJob, ServiceError | None], None]",
        is_cancelled: Callable[[], bool],
        deadline_s: float | None,
        capture: Capture | None = None,
    ) -> None:
        super().__init__(done=done, is_cancelled=is_cancelled, deadline_s=deadline_s)
        assert inputs.lengths is not None, "sequences have lengths"
        self._spec = spec
        lengths = inputs.lengths if rows is None else inputs.lengths[rows]
        self._order = np.argsort(-lengths.astype(np.int64), kind="stable")
        self._request_lengths = lengths
        self.lengths = lengths[self._order].astype(np.int32)
        """Time steps of each row, longest first."""
        self.time_steps = int(self.lengths.sum())
        self.inputs = inputs.pad(self._order if rows is None else rows[self._order])
        self.state = [array[self._order] for array in state]
        self._outputs = blank_padded(spec.outputs, len(self.lengths), int(self.lengths[0]))
        self._failed: set[int] = set()
        """Rows, longest first, whose run failed even alone."""
        self._capture = capture
        self._boundaries: list[tuple[int, list[int]]] = []
        """Numbers of time steps at which states are wanted, and of which rows, longest first; those that were
        come to are left out."""
        if capture is not None:
            places = np.argsort(self._order).tolist()
            self._boundaries = sorted(
                (time, [places[row] for row in own]) for time, own in capture.rows.items()
            )
        self._reached: list[tuple[int, list[int], list[Array], list[Array]]] = []
        """What was come to since the last `publish`: time, rows longest first, states, last outputs."""

    @property
    def remaining(self) -> int:
        """Time steps that the longest row still has to run."""
        return int(self.lengths[0]) - self.time

    @property
    def active(self) -> int:
        """Rows that still run: the first ones."""
        return int(np.count_nonzero(self.lengths > self.time))

    @property
    def to_boundary(self) -> int:
        """Time steps to the next state that is wanted; 0: no further one is."""
        return self._boundaries[0][0] - self.time if self._boundaries else 0

    @property
    def has_reached(self) -> bool:
        """Whether `publish` has something to give."""
        return bool(self._reached)

    def slice_with(self, members: list[SliceMember[Any]], steps: int) -> "SequenceSlice":
        """See Job."""
        return SequenceSlice(members, steps)

    def absorb(
        self,
        steps: int,
        rows: int,
        outputs: Sequence[Array],
        state: Sequence[Array],
        failed: Sequence[int],
    ) -> None:
        """Takes the results of up to `steps` time steps of the first `rows` rows."""
        taken = min(steps, self.remaining)
        reaches = taken == self.to_boundary
        ending = self.lengths[:rows] <= self.time + steps
        for kept, array, entry in zip(self._outputs, outputs, self._spec.outputs, strict=True):
            if entry.per_step:
                kept[self.time : self.time + taken, :rows] = array[:taken]
            else:
                kept[:rows][ending] = array[ending]
        for kept, array in zip(self.state, state, strict=True):
            kept[:rows] = array
        self._failed.update(failed)
        self.time += taken
        if reaches:
            self._reach(outputs)

    def publish(self) -> None:
        """Gives the wanted states that the rows have come to. On the event loop."""
        reached, self._reached = self._reached, []
        capture = self._capture
        if capture is None:
            return
        if not self._boundaries:
            self._capture = None
        pairs = list(zip(self._outputs, self._spec.outputs, strict=True))
        for time, rows, state, last in reached:
            for number, row in enumerate(rows):
                capture.on_state(
                    ReachedState(
                        int(self._order[row]),
                        time,
                        [array[number].copy() for array in state],
                        [array[number].copy() for array in last],
                        [array[:time, row] for array, entry in pairs if entry.per_step],
                    )
                )

    def _reach(self, outputs: Sequence[Array]) -> None:
        """Notes the wanted states at the present time, before the next run."""
        _, rows = self._boundaries.pop(0)
        if self._failed:
            rows = [row for row in rows if row not in self._failed]
        entries = zip(outputs, self._spec.outputs, strict=True)
        last = [array[rows] for array, entry in entries if not entry.per_step]
        self._reached.append((self.time, rows, [array[rows] for array in self.state], last))

    def results(self) -> tuple[RaggedColumns, list[Array], NDArray[np.bool_]]:
        """Returns outputs, states, and which rows did not fail; all in request order.

        Outputs and states of failed rows are there and mean nothing.
        """
        columns = np.empty(len(self._order), np.intp)
        columns[self._order] = np.arange(len(self._order))
        good = np.ones(len(columns), np.bool_)
        good[[int(self._order[row]) for row in self._failed]] = False
        outputs = RaggedColumns.unpad(self._spec.outputs, self._outputs, self._request_lengths, columns)
        return outputs, [array[columns] for array in self.state], good


class SequenceSlice(JobSlice[SequenceJob]):
    """Some time steps of some sequence jobs. Of each job it takes the first rows."""

    __slots__ = ()

    @property
    def time_steps(self) -> int:
        """See JobSlice."""
        total = 0
        for member in self.members:
            job = member.job
            if member.rows == 1:
                total += min(int(job.lengths[0]) - job.time, self.steps)
            else:
                total += int(np.minimum(job.lengths[: member.rows] - job.time, self.steps).sum())
        return total

    def run(self, engine: Engine, *, batchable: bool) -> RunResult:
        """See JobSlice.

        Where states on the way are wanted, there is a run up to each, whose results are given to the jobs at
        once: a slice for each would cost several times more.
        """
        if not any(0 < member.job.to_boundary < self.steps for member in self.members):
            return self._run(engine, batchable=batchable)
        left = self.steps
        while left > 0 and (part := self._next_part(left)) is not None:
            part._absorb(engine, part._run(engine, batchable=batchable))
            left -= part.steps
        return RunResult([], [], [])

    def distribute(self, engine: Engine, result: RunResult) -> None:
        """See JobSlice."""
        if result.state or result.outputs:  # else the parts of the slice have given theirs
            self._absorb(engine, result)
        for member in self.members:
            if member.job.has_reached:
                member.job.publish()

    def _next_part(self, most: int) -> "SequenceSlice | None":
        """Returns the run up to the next boundary of any job; None: all jobs have run."""
        members: list[SliceMember[SequenceJob]] = []
        rows = 0
        for job in (member.job for member in self.members):
            if job.remaining > 0:
                members.append(SliceMember(job, job.active, rows))
                rows += members[-1].rows
        if not members:
            return None
        ends = [job.to_boundary for job in (member.job for member in members) if job.to_boundary]
        return SequenceSlice(members, min([most, *ends]))

    def _run(self, engine: Engine, *, batchable: bool) -> RunResult:
        """Runs all steps in one run."""
        lengths = np.empty(self.rows, np.int32)
        for member in self.members:
            own = member.job.lengths[: member.rows] - member.job.time
            lengths[member.run_rows] = np.minimum(own, self.steps)
        steps = int(lengths.max())
        inputs = [
            self._steps_of(number, steps, len(lengths)) if entry.per_step else self._rows_of(number)
            for number, entry in enumerate(engine.spec.inputs)
        ]
        state = [
            np.concatenate([member.job.state[number][: member.rows] for member in self.members])
            for number in range(len(engine.spec.state))
        ]
        return run_batch(engine, inputs, lengths, state, batchable=batchable)

    def _absorb(self, engine: Engine, result: RunResult) -> None:
        """Gives every job its results of one run."""
        for member in self.members:
            member.job.absorb(
                self.steps,
                member.rows,
                take_padded(engine.spec.outputs, result.outputs, member.run_rows),
                [array[member.run_rows] for array in result.state],
                member.failed(result),
            )

    def _rows_of(self, number: int) -> Array:
        """Returns one input that is not per step, [rows, ...], of all members."""
        return np.concatenate([member.job.inputs[number][: member.rows] for member in self.members])

    def _steps_of(self, number: int, steps: int, rows: int) -> Array:
        """Returns one per-step input, [steps, rows, ...], from the time on that each job has come to."""
        blocks = [
            member.job.inputs[number][member.job.time : member.job.time + steps, : member.rows]
            for member in self.members
        ]
        if len(blocks) == 1:
            return np.ascontiguousarray(blocks[0])
        joined = np.zeros((steps, rows, *blocks[0].shape[2:]), blocks[0].dtype)
        for member, block in zip(self.members, blocks, strict=True):
            joined[: len(block), member.run_rows] = block
        return joined
