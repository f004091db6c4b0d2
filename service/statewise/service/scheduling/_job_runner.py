"""Runs jobs slice by slice, so that a step never waits for a whole sequence.

A slice that is expected to be very short runs on the event loop, any other in a thread: a job keeps the
server busy slice after slice. One slice runs at a time.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial

from statewise.service.base import ServiceError, server_fault
from statewise.service.engine import Engine, EngineProfile, RunResult
from statewise.service.scheduling._run_accounting import RunAccounting
from statewise.service.scheduling.jobs import AbandonedJob, Job, JobQueue, JobSlice, QueuedSteps

_log = logging.getLogger(__name__)

_SHARE_ON_LOOP = 0.15
"""A slice may hold the event loop up for this share of what a single run may: more slices follow."""


class JobRunner:
    """Runs the jobs of one model version.

    Args:
        engine: Runs slices.
        profile: What the engine may do, and what runs cost.
        accounting: Counts the runs of slices.
        queued: Counts the time steps of jobs until they are done.
        executor: Where runs go that would hold up the event loop.
        clock: Seconds, monotonic; deadlines are on it.
        inline_s: Seconds that a run on the event loop may take; a slice may take a share of this time.
        slice_s: Seconds that a slice may take.
    """

    def __init__(
        self,
        engine: Engine,
        profile: EngineProfile,
        *,
        accounting: RunAccounting,
        queued: QueuedSteps,
        executor: Executor,
        clock: Callable[[], float],
        inline_s: float,
        slice_s: float,
    ) -> None:
        self._engine = engine
        self._profile = profile
        self._accounting = accounting
        self._queued = queued
        self._executor = executor
        self._clock = clock
        self._inline_s = inline_s * _SHARE_ON_LOOP
        mixes = profile.batchable and engine.spec.lengths is not None
        self.queue = JobQueue(profile, mixes=mixes, clock=clock, slice_s=slice_s)
        """The jobs that wait or run."""
        self._running = False

    def end_abandoned(self) -> None:
        """Ends every waiting job that no caller waits for any more."""
        self._end_all(self.queue.drop_abandoned())

    def run_next(self, then: Callable[[], None]) -> None:
        """Runs the next slice of the jobs that wait; calls `then` when the slice has ended."""
        if self._running:
            return
        chosen, dropped = self.queue.next_slice()
        self._end_all(dropped)
        if chosen is None:
            return
        own = chosen.members[0].job.cost_model
        cost_s = (self._profile if own is None else own).cost_s(chosen.rows, chosen.steps)
        begun_s = self._clock()
        fresh = [member.job for member in chosen.members if member.job.time == 0]
        self._accounting.begin(fresh, chosen.rows, begun_s)
        steps = chosen.time_steps
        run = partial(chosen.run, self._engine, batchable=self._profile.batchable)
        if cost_s <= self._inline_s:
            self._finish(chosen, run, begun_s, steps, then)
            return
        self._running = True

        def finish(ran: asyncio.Future[RunResult]) -> None:
            self._running = False
            self._finish(chosen, ran.result, begun_s, steps, then)

        asyncio.get_running_loop().run_in_executor(self._executor, run).add_done_callback(finish)

    def _finish(
        self,
        ran: JobSlice[Job],
        run: Callable[[], RunResult],
        begun_s: float,
        steps: int,
        then: Callable[[], None],
    ) -> None:
        try:
            result = run()
            self._accounting.end([member.job for member in ran.members], ran.rows, begun_s, steps=steps)
            ran.distribute(self._engine, result)
        except (Exception, asyncio.CancelledError) as error:
            _log.error("a slice of jobs failed", exc_info=error)
            self.queue.fail_slice(ran)
            failure = server_fault()
            for member in ran.members:
                self._end(member.job, failure)
        else:
            for job in self.queue.end_slice(ran, begun_s=begun_s):
                self._end(job, None)
            if any(member.job.is_cancelled() for member in ran.members):
                self.end_abandoned()
        then()

    def _end_all(self, dropped: Sequence[AbandonedJob]) -> None:
        for job, failure in dropped:
            self._end(job, failure)

    def _end(self, job: Job, failure: ServiceError | None) -> None:
        self._queued.count -= job.queued_steps
        job.ended_s = self._clock()
        job.done(job, failure)
