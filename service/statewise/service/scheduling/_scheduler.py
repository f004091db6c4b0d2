"""Runs the work of one model version: takes it in, and in each turn of the event loop runs what may begin.

Runs nothing itself: the step runner runs single steps, the job runner long work. Requests of one session run
in the order they came. Every step batch and every job gets exactly one answer, also on failure.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np

from statewise.service.base import Barrier, Slots, StepBatch
from statewise.service.engine import Engine, EngineProfile
from statewise.service.scheduling._job_runner import JobRunner
from statewise.service.scheduling._run_accounting import RunAccounting
from statewise.service.scheduling._step_answers import StepAnswers
from statewise.service.scheduling._step_runner import StepRunner
from statewise.service.scheduling.jobs import (
    Job,
    QueuedSteps,
    SequenceRequest,
    SequenceStarter,
    waits_too_long,
)
from statewise.service.scheduling.prefixes import PrefixTree
from statewise.service.session_state import SessionTable, StateArena
from statewise.service.session_state.kept_states import KeptStates
from statewise.service.telemetry import ModelStatistics, SlowRequests

if TYPE_CHECKING:
    from statewise.service.tracing import Tracing


class Scheduler:
    """Runs the work of one model version, on one event loop.

    No part of a scheduler refers back to it, except while a run is under way: an unloaded version, with its
    graph, is freed at once and not when reference cycles are looked for.

    Args:
        engine: Runs batches.
        arena: Holds the sessions' states.
        table: Holds the sessions.
        profile: What the engine may do, and what runs cost.
        executor: Where runs go that would hold up the event loop.
        clock: Seconds, monotonic; deadlines are on it.
        queue_steps: Time steps that may wait.
        queue_s: Seconds that new long work may have to wait.
        inline_s: Runs expected to be shorter happen on the event loop.
        slice_s: Seconds that a slice of long work may take.
        slow: Logs requests that took long.
        tracing: Makes spans of runs; None: there are none.
        prefixes: Knows beginnings that sequences share; None: each sequence is run from where it starts.
    """

    def __init__(
        self,
        engine: Engine,
        arena: StateArena,
        table: SessionTable,
        profile: EngineProfile,
        *,
        executor: Executor,
        clock: Callable[[], float],
        queue_steps: int,
        queue_s: float,
        inline_s: float,
        slice_s: float,
        slow: SlowRequests,
        tracing: "Tracing | None",
        prefixes: PrefixTree | None = None,
    ) -> None:
        self._clock = clock
        self._queue_s = queue_s
        self._tracing = tracing
        self._turn_planned = False
        self._drops_abandoned = False
        self.statistics = statistics = ModelStatistics()
        self.kept = KeptStates(arena, table)
        """Current and earlier states of the sessions."""
        self._queued = QueuedSteps(queue_steps)
        self._jobs = JobRunner(
            engine,
            profile,
            accounting=RunAccounting("long", statistics.long, clock=clock, tracing=tracing),
            queued=self._queued,
            executor=executor,
            clock=clock,
            inline_s=inline_s,
            slice_s=slice_s,
        )
        self._sequences = SequenceStarter(
            engine.spec, self._jobs.queue, self._queued, prefixes, count=statistics.prefix.add, clock=clock
        )
        self._steps = StepRunner(
            engine,
            arena,
            table,
            profile,
            kept=self.kept,
            sequences=self._sequences,
            answers=StepAnswers(statistics, slow, self._queued, clock=clock),
            accounting=RunAccounting("single", statistics.single, clock=clock, tracing=tracing),
            statistics=statistics,
            executor=executor,
            clock=clock,
            inline_s=inline_s,
        )

    @property
    def queued_steps(self) -> int:
        """Time steps that wait or run."""
        return self._queued.count

    def check_capacity(self, time_steps: int) -> None:
        """Checks whether jobs of that many time steps may be submitted.

        Raises:
            ServiceError: QUEUE_FULL: they would have to wait too long, or exceed the limit of the queue.
        """
        if self._jobs.queue.wait_s > self._queue_s:
            self._end_abandoned()
        wait_s = self._jobs.queue.wait_s
        if wait_s > self._queue_s:
            raise waits_too_long(wait_s, self._queue_s)
        if not self._queued.has_room(time_steps):
            raise self._queued.refusal(step_s=self._jobs.queue.step_s)

    def reserve_capacity(self, time_steps: int) -> AbstractContextManager[Callable[[int], None]]:
        """Counts time steps as waiting, for a request of several jobs. Raises ServiceError (QUEUE_FULL).

        The context gives a function that releases so many of them, and releases the rest at its end.
        """
        self.check_capacity(time_steps)
        return self._queued.reserve(time_steps)

    def submit(self, batch: StepBatch) -> None:
        """Takes a step batch, or raises ServiceError (QUEUE_FULL)."""
        if not self._queued.has_room(batch.time_steps):
            raise self._queued.refusal(step_s=self._jobs.queue.step_s)
        batch.received_s = self._clock()
        if self._tracing is not None:
            batch.span = self._tracing.describe(batch)
        self._queued.count += batch.time_steps
        self._steps.queue.add(batch)
        self._plan_turn()

    def submit_barrier(self, barrier: Barrier) -> None:
        """Takes an operation that runs after all that was submitted for its sessions before."""
        self._steps.queue.add(barrier)
        self._plan_turn()

    def awaited_sessions(self) -> Slots:
        """Returns the slots of the sessions that waiting steps and operations are for."""
        return self._steps.queue.sessions()

    def release_sessions(self, slots: Slots) -> None:
        """Frees sessions that a barrier made busy."""
        self._steps.free(slots)
        self._plan_turn()

    def submit_job(self, job: Job, *, reserved: bool = False) -> None:
        """Takes a job without a check: a caller with many jobs checks the capacity once for all of them.

        Args:
            job: The job.
            reserved: Its time steps are counted already (see `reserve_capacity`).
        """
        job.queued_steps = 0 if reserved else job.time_steps
        job.received_s = self._clock()
        if self._tracing is not None:
            job.span = self._tracing.current()
        self._queued.count += job.queued_steps
        self._jobs.queue.add(job)
        self._plan_turn()

    def submit_sequences(self, request: SequenceRequest, *, reserved: bool = False) -> None:
        """Takes sequences without a check, as `submit_job`; they may end before this returns."""
        time_steps = 0 if reserved else int(request.lengths.sum(dtype=np.int64))
        request.received_s = self._clock()
        if self._tracing is not None:
            request.span = self._tracing.current()
        self._queued.count += time_steps
        self._sequences.start(request, queued_steps=time_steps)
        self._plan_turn()

    def drop_abandoned_soon(self) -> None:
        """Ends the jobs that no caller waits for any more at the next turn, those that run after their slice.

        Without it a job that was abandoned ends when its turn to run has come.
        """
        self._drops_abandoned = True
        self._plan_turn()

    def _plan_turn(self) -> None:
        if not self._turn_planned:
            self._turn_planned = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _end_abandoned(self) -> None:
        self._jobs.end_abandoned()
        self._sequences.end_abandoned()
        if self._sequences.has_woken:
            self._plan_turn()

    def _turn(self) -> None:
        self._turn_planned = False
        if self._steps.queue:
            self._steps.run_next(self._plan_turn)
        if self._drops_abandoned:
            self._drops_abandoned = False
            self._end_abandoned()
        if self._sequences.under_way:
            self._sequences.look()
            self._sequences.run_woken()
        if self._jobs.queue:
            self._jobs.run_next(self._plan_turn)
        if self._sequences.under_way and self._sequences.has_woken:
            self._plan_turn()
