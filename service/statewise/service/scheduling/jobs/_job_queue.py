"""Chooses which jobs run next, side by side, and for how many time steps.

Decides neither how a slice runs (jobs do) nor where (the job runner does). A job's place in the order depends
on when it came and on its own size, never on what comes later: short jobs overtake long ones, and no job
waits for ever.
"""

import heapq
from collections.abc import Callable
from typing import NamedTuple

from statewise.service.base import ServiceError, abandoned
from statewise.service.engine import EngineProfile
from statewise.service.scheduling.jobs._job import Job, JobSlice, SliceMember

_SLICE_ROWS = 256
"""Rows up to which jobs share a slice. Beyond it a row costs the same, and fewer of its steps fit in."""
_ENOUGH_ROWS = 16
"""Rows from which on a row and step of sequences cost nearly the least (LSTM, H=64: 0.9 us at 1 row, 0.49 at
8, 0.48 at 16, 0.46 at 64), while every further job costs a slice some more copying."""
_ENOUGH_STEPS = 16
"""Steps from which on a slice's fixed cost is small; other jobs join the first as long as so many fit in."""
_PATIENCE = 10.0
"""Jobs run in order of when they would be done with a tenth of the machine each."""
_LOOK_AHEAD = 64
"""Jobs that are passed over at most because they cannot share the slice."""
_LATEST_WEIGHT = 0.05
"""Weight of the last slice in the estimate of what a step costs."""
_GREATEST_GROWTH = 4.0
"""A slice counts as at most so many times the estimate: one that was held up says little about the next."""

AbandonedJob = tuple[Job, ServiceError]
"""A job that no caller waits for any more, and why."""


class _WaitingJob(NamedTuple):
    """A job in the heap; `number` keeps jobs that are due at the same time in the order they came."""

    due_s: float
    number: int
    job: Job


class JobQueue:
    """Jobs of one model version that wait or run, and the slice to run next.

    Args:
        profile: What the engine may do, and what runs cost.
        mixes: Whether sequences of several jobs may share a run.
        clock: Seconds, monotonic; deadlines are on it.
        slice_s: Seconds that a slice may take.
    """

    def __init__(
        self, profile: EngineProfile, *, mixes: bool, clock: Callable[[], float], slice_s: float
    ) -> None:
        self._profile = profile
        self._mixes = mixes
        self._clock = clock
        self._slice_s = slice_s
        self._waiting: list[_WaitingJob] = []
        self._running: dict[Job, _WaitingJob] = {}
        self._number = 0
        self._time_steps = 0
        self._idle = True
        """Whether no job has waited at some time since the last slice ended."""
        self._last_end_s = 0.0
        self.step_s = profile.row_step_s
        """Seconds that a row and step takes under the present load, all that happens beside it included."""

    def __len__(self) -> int:
        """Jobs that wait, without those of the slice that runs."""
        return len(self._waiting)

    @property
    def wait_s(self) -> float:
        """Seconds until all jobs will have run, roughly."""
        return self._time_steps * self.step_s

    def add(self, job: Job) -> None:
        """Takes a job."""
        if not (self._waiting or self._running):
            self._idle = True
        self._number += 1
        self._time_steps += job.time_steps
        due_s = job.received_s + _PATIENCE * job.time_steps * self._profile.row_step_s
        heapq.heappush(self._waiting, _WaitingJob(due_s, self._number, job))

    def drop_abandoned(self) -> list[AbandonedJob]:
        """Takes out every waiting job that no caller waits for any more."""
        now_s = self._clock()
        kept: list[_WaitingJob] = []
        dropped: list[AbandonedJob] = []
        for entry in self._waiting:
            failure = abandoned(entry.job.is_cancelled(), entry.job.deadline_s, now_s)
            if failure is None:
                kept.append(entry)
            else:
                self._time_steps -= entry.job.time_steps
                dropped.append((entry.job, failure))
        if dropped:
            heapq.heapify(kept)
            self._waiting = kept
        return dropped

    def next_slice(self) -> tuple[JobSlice[Job] | None, list[AbandonedJob]]:
        """Returns the slice to run now, and the abandoned jobs met on the way.

        The jobs of the slice have left the queue until `end_slice` or `fail_slice`.
        """
        members: list[SliceMember[Job]] = []
        dropped: list[AbandonedJob] = []
        passed: list[_WaitingJob] = []
        rows = 0
        now_s = self._clock()
        while self._waiting and len(passed) < _LOOK_AHEAD and not self._is_full(members, rows):
            entry = heapq.heappop(self._waiting)
            job = entry.job
            failure = abandoned(job.is_cancelled(), job.deadline_s, now_s)
            if failure is not None:
                self._time_steps -= job.time_steps
                dropped.append((job, failure))
                continue
            active = job.active
            if members and not self._joins(members[0].job, job, rows + active):
                passed.append(entry)
                continue
            self._running[job] = entry
            members.append(SliceMember(job, active, rows))
            rows += active
        for entry in passed:
            heapq.heappush(self._waiting, entry)
        if not members:
            return None, dropped
        first = members[0].job
        steps = max(member.job.remaining for member in members)
        limit = self._steps_within(first, rows)
        return first.slice_with(members, steps if limit is None else min(steps, limit)), dropped

    def end_slice(self, ran: JobSlice[Job], *, begun_s: float) -> list[Job]:
        """Takes back the jobs of a slice that has run; gives those that are done."""
        now_s = self._clock()
        took_s = now_s - (begun_s if self._idle else self._last_end_s)
        self._last_end_s = now_s
        steps = ran.rows * ran.steps
        # A small slice costs what a run costs, however few steps it has: no estimate of a step.
        reads = ran.members[0].job.cost_model is None
        if reads and steps * self._profile.row_step_s > self._slice_s / 2:
            latest_s = min(took_s / steps, _GREATEST_GROWTH * self.step_s)
            self.step_s += _LATEST_WEIGHT * (latest_s - self.step_s)
        done: list[Job] = []
        for member in ran.members:
            entry = self._running.pop(member.job)
            if member.job.remaining:
                heapq.heappush(self._waiting, entry)
            else:
                self._time_steps -= member.job.time_steps
                done.append(member.job)
        self._idle = False
        return done

    def fail_slice(self, failed: JobSlice[Job]) -> None:
        """Forgets the jobs of a slice that could not be run."""
        for member in failed.members:
            del self._running[member.job]
            self._time_steps -= member.job.time_steps
        self._idle = True

    def _is_full(self, members: list[SliceMember[Job]], rows: int) -> bool:
        """Returns whether further sequences would make the slice shorter and no cheaper."""
        if rows < _ENOUGH_ROWS or members[0].job.cost_model is not None:
            return False
        limit = self._steps_within(members[0].job, rows)
        return limit is not None and limit <= min(member.job.remaining for member in members)

    def _joins(self, first: Job, other: Job, rows: int) -> bool:
        """Returns whether a job may share the slice of the first, which then has so many rows."""
        mixes = self._mixes if first.cost_model is None else first.cost_model.batchable
        if first.cost_model is not other.cost_model or not mixes or rows > _SLICE_ROWS:
            return False
        limit = self._steps_within(first, rows)
        return limit is None or limit >= min(first.remaining, _ENOUGH_STEPS)

    def _steps_within(self, first: Job, rows: int) -> int | None:
        """Returns the time steps of so many rows that a slice may have; None: the jobs cannot be cut."""
        cost_model = self._profile if first.cost_model is None else first.cost_model
        return cost_model.steps_within(self._slice_s, rows)
