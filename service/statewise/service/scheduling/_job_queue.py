"""The lane of long work: which jobs run next, side by side, and for how many time steps.

Not how a piece runs (piece, generation) nor where (scheduler). A job's place depends on when it came and on
its own size, never on what comes later, so that short work overtakes long and nothing waits for ever.
"""

import heapq
from collections.abc import Callable
from typing import NamedTuple

from statewise.service.base import ServiceError, given_up
from statewise.service.engine import EngineProfile
from statewise.service.scheduling._job import Job, JobSlice, SliceMember

_PIECE_ROWS = 256
"""Rows that jobs share a piece for. Beyond it a row costs the same, and fewer of its steps fit in."""
_ENOUGH_ROWS = 16
"""Rows from which on a row and step of sequences cost nearly the least (LSTM, H=64: 0.9 us at 1 row, 0.49 at
8, 0.48 at 16, 0.46 at 64), while every further job costs a piece some more copying."""
_ENOUGH_STEPS = 16
"""Steps from which on a piece's fixed cost is small; other work joins the first as long as so many fit in."""
_PATIENCE = 10.0
"""Jobs run in order of when they would be done with a tenth of the machine each."""
_LOOK_AHEAD = 64
"""Jobs that are passed over because they cannot share the piece."""
_MEMORY = 0.05
"""Weight of the last piece in what a step is thought to cost."""
_MOST_GROWTH = 4.0
"""How many times dearer than thought a piece counts at most: one that was held up says little of the next."""

GivenUp = tuple[Job, ServiceError]


class _Place(NamedTuple):
    due_s: float
    number: int
    job: Job


class JobQueue:
    """Jobs of one model version that wait or are under way, and the piece to run next.

    Args:
        test: What the engine may do, and what it costs.
        mixes: Whether sequences of several jobs may share a run.
        clock: Seconds, monotonic; deadlines are on it.
        piece_s: How long a piece may take.
    """

    def __init__(
        self, test: EngineProfile, *, mixes: bool, clock: Callable[[], float], piece_s: float
    ) -> None:
        self._test = test
        self._mixes = mixes
        self._clock = clock
        self._piece_s = piece_s
        self._places: list[_Place] = []
        self._taken: dict[Job, _Place] = {}
        self._number = 0
        self._time_steps = 0
        self._idle = True
        """Whether nothing was waiting when the last piece ended, or since."""
        self._last_end_s = 0.0
        self.step_s = test.row_step_s
        """Seconds that a row and step takes under the present load, all that happens beside it included."""

    def __len__(self) -> int:
        return len(self._places)

    @property
    def wait_s(self) -> float:
        """Seconds until all that is here will have run, roughly."""
        return self._time_steps * self.step_s

    def add(self, job: Job) -> None:
        """Takes a job."""
        if not (self._places or self._taken):
            self._idle = True
        self._number += 1
        self._time_steps += job.time_steps
        due_s = job.received_s + _PATIENCE * job.time_steps * self._test.row_step_s
        heapq.heappush(self._places, _Place(due_s, self._number, job))

    def drop_given_up(self) -> list[GivenUp]:
        """Takes out every job that nobody waits for any more, and says why."""
        now_s = self._clock()
        kept: list[_Place] = []
        dropped: list[GivenUp] = []
        for place in self._places:
            failure = given_up(place.job.is_cancelled(), place.job.deadline_s, now_s)
            if failure is None:
                kept.append(place)
            else:
                self._time_steps -= place.job.time_steps
                dropped.append((place.job, failure))
        if dropped:
            heapq.heapify(kept)
            self._places = kept
        return dropped

    def next_slice(self) -> tuple[JobSlice | None, list[GivenUp]]:
        """What to run now, and the jobs met on the way that nobody waits for any more.

        The jobs of the piece have left the lane until `end_piece`.
        """
        parts: list[SliceMember[Job]] = []
        dropped: list[GivenUp] = []
        passed: list[_Place] = []
        rows = 0
        now_s = self._clock()
        while self._places and len(passed) < _LOOK_AHEAD and not self._is_full(parts, rows):
            place = heapq.heappop(self._places)
            job = place.job
            failure = given_up(job.is_cancelled(), job.deadline_s, now_s)
            if failure is not None:
                self._time_steps -= job.time_steps
                dropped.append((job, failure))
                continue
            active = job.active
            if parts and not self._joins(parts[0].job, job, rows + active):
                passed.append(place)
                continue
            self._taken[job] = place
            parts.append(SliceMember(job, active, rows))
            rows += active
        for place in passed:
            heapq.heappush(self._places, place)
        if not parts:
            return None, dropped
        first = parts[0].job
        steps = max(part.job.remaining for part in parts)
        limit = self._steps_within(first, rows)
        return first.piece(parts, steps if limit is None else min(steps, limit)), dropped

    def end_piece(self, piece: JobSlice, *, begun_s: float) -> list[Job]:
        """Takes back the jobs of a piece that has run; gives those that have come to their end."""
        now_s = self._clock()
        took_s = now_s - (begun_s if self._idle else self._last_end_s)
        self._last_end_s = now_s
        steps = piece.rows * piece.steps
        # Small pieces cost what a run costs, however few steps they have: they tell nothing about long work.
        if piece.parts[0].job.pace is None and steps * self._test.row_step_s > self._piece_s / 2:
            self.step_s += _MEMORY * (min(took_s / steps, _MOST_GROWTH * self.step_s) - self.step_s)
        ended: list[Job] = []
        for part in piece.parts:
            place = self._taken.pop(part.job)
            if part.job.remaining:
                heapq.heappush(self._places, place)
            else:
                self._time_steps -= part.job.time_steps
                ended.append(part.job)
        self._idle = False
        return ended

    def fail_piece(self, piece: JobSlice) -> None:
        """Forgets the jobs of a piece that could not be run."""
        for part in piece.parts:
            del self._taken[part.job]
            self._time_steps -= part.job.time_steps
        self._idle = True

    def _is_full(self, parts: list[SliceMember[Job]], rows: int) -> bool:
        """Whether further sequences would make the piece shorter and no cheaper."""
        if rows < _ENOUGH_ROWS or parts[0].job.pace is not None:
            return False
        limit = self._steps_within(parts[0].job, rows)
        return limit is not None and limit <= min(part.job.remaining for part in parts)

    def _joins(self, first: Job, other: Job, rows: int) -> bool:
        """Whether work may share the piece of the first, which then has so many rows."""
        mixes = self._mixes if first.pace is None else first.pace.together
        if first.pace is not other.pace or not mixes or rows > _PIECE_ROWS:
            return False
        limit = self._steps_within(first, rows)
        return limit is None or limit >= min(first.remaining, _ENOUGH_STEPS)

    def _steps_within(self, first: Job, rows: int) -> int | None:
        """Time steps of so many rows that a piece may have; None: the work cannot be cut."""
        if first.pace is not None:
            return first.pace.steps_within(self._piece_s, rows)
        if not self._test.chunkable:
            return None
        return max(1, int(self._piece_s / (rows * self._test.row_step_s)))
