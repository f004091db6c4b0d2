"""Runs step batches: single steps of many sessions together, batches of many steps as jobs.

A run that is expected to be short happens on the event loop, any other in a thread; its sessions are busy
meanwhile.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial

import numpy as np

from statewise.service.base import RaggedColumns, ServiceError, Slots, StepBatch
from statewise.service.engine import Engine, EngineProfile, RunResult, run_batch
from statewise.service.scheduling._run_accounting import RunAccounting
from statewise.service.scheduling._single_step import SingleStep
from statewise.service.scheduling._step_answers import StepAnswers
from statewise.service.scheduling._step_execution import GatheredBatch, PreparedBatch, StepExecution
from statewise.service.scheduling._step_queue import StepQueue
from statewise.service.scheduling.jobs import (
    SequenceRequest,
    SequenceResults,
    SequenceStarter,
)
from statewise.service.session_state import SessionTable, StateArena
from statewise.service.session_state.kept_states import KeptStates
from statewise.service.telemetry import ModelStatistics


class StepRunner:
    """Runs the step batches and barriers of one model version.

    Args:
        engine: Runs batches.
        arena: Holds the sessions' states.
        table: Holds the sessions.
        profile: What the engine may do, and what runs cost.
        kept: Makes new states current.
        sequences: Starts batches of many steps a row.
        answers: Answers step batches.
        accounting: Counts runs of single steps.
        statistics: Statistics of the model version.
        executor: Where runs go that would hold up the event loop.
        clock: Seconds, monotonic; deadlines are on it.
        inline_s: Runs expected to be shorter happen on the event loop.
    """

    def __init__(
        self,
        engine: Engine,
        arena: StateArena,
        table: SessionTable,
        profile: EngineProfile,
        *,
        kept: KeptStates,
        sequences: SequenceStarter,
        answers: StepAnswers,
        accounting: RunAccounting,
        statistics: ModelStatistics,
        executor: Executor,
        clock: Callable[[], float],
        inline_s: float,
    ) -> None:
        self._engine = engine
        self._table = table
        self._profile = profile
        self._sequences = sequences
        self._answers = answers
        self._accounting = accounting
        self._executor = executor
        self._clock = clock
        self._inline_s = inline_s
        self._running = False
        self._inputs_per_step = [entry.per_step for entry in engine.spec.inputs]
        self._outputs_per_step = [entry.per_step for entry in engine.spec.outputs]
        self._execution = StepExecution(
            engine.spec, arena, table, kept=kept, answers=answers, statistics=statistics
        )
        self.queue = StepQueue(table, self._execution, answers, clock=clock)
        """The batches and barriers that wait."""
        self._runs_alone = engine.spec.least_steps == 1
        self._single_step = SingleStep(engine, arena, table, kept)

    def free(self, slots: Slots) -> None:
        """Frees busy sessions."""
        self._table.busy[slots] = False
        self.queue.sessions_freed()

    def run_next(self, then: Callable[[], None]) -> None:
        """Runs the waiting work that may begin; calls `then` each time more may begin."""
        if self._running or self._ran_alone():
            return
        taken = self.queue.take()
        for batch in taken.chunks:
            self._start_job(batch)
        if taken.single is not None:
            self._run(taken.single, then)
        if taken.again:
            then()

    def _ran_alone(self) -> bool:
        """Runs what waits where that is one step of one session and nothing is unusual about it."""
        begun_s = self._clock()
        batch = self.queue.only_step(begun_s)
        if batch is None or not self._runs_alone or self._profile.cost_s(1, 1) > self._inline_s:
            return False
        try:
            result = self._single_step.run(batch)
        except Exception as error:
            self.queue.remove_only_step()
            self._answers.fail([batch], error)
            return True
        if result is None:
            return False
        self.queue.remove_only_step()
        ran = (batch,)
        self._accounting.begin(ran, 1, begun_s)
        self._accounting.end(ran, 1, begun_s, steps=1)
        self._answers.answer(batch, result)
        return True

    # --- single steps of many sessions ---

    def _run(self, gathered: GatheredBatch, then: Callable[[], None]) -> None:
        try:
            prepared = self._execution.prepare(gathered)
            rows = len(prepared.slots)
            if rows == 0:
                self._execution.refuse(prepared)
                return
            inputs = [
                array[None] if per_step else array
                for array, per_step in zip(prepared.inputs, self._inputs_per_step, strict=True)
            ]
            state = self._execution.state_of(prepared)
        except Exception as error:
            self._answers.fail(gathered.batches, error)
            return
        begun_s = self._clock()
        self._accounting.begin(prepared.batches, rows, begun_s)
        lengths = np.ones(rows, np.int32)
        run = partial(run_batch, self._engine, inputs, lengths, state, batchable=self._profile.batchable)
        if self._profile.cost_s(rows, 1) <= self._inline_s:
            self._finish(prepared, run, begun_s)
            return
        self._table.busy[prepared.slots] = True
        self._running = True

        def finish(ran: asyncio.Future[RunResult]) -> None:
            self._running = False
            self.free(prepared.slots)
            self._finish(prepared, ran.result, begun_s)
            then()

        asyncio.get_running_loop().run_in_executor(self._executor, run).add_done_callback(finish)

    def _finish(self, prepared: PreparedBatch, run: Callable[[], RunResult], begun_s: float) -> None:
        try:
            result = run()
            rows = len(prepared.slots)
            self._accounting.end(prepared.batches, rows, begun_s, steps=rows)
            outputs = [
                array[0] if per_step else array
                for array, per_step in zip(result.outputs, self._outputs_per_step, strict=True)
            ]
            self._execution.commit(prepared, outputs, result.state, result.failed)
        except (Exception, asyncio.CancelledError) as error:
            self._answers.fail(prepared.batches, error)

    # --- many steps a row ---

    def _start_job(self, batch: StepBatch) -> None:
        """Turns a batch of chunks into a job; its sessions are busy until the job is done."""
        try:
            prepared = self._execution.prepare(self._execution.gather([batch]))
            if len(prepared.slots) == 0:
                self._execution.refuse(prepared)
                return
            request = SequenceRequest(
                RaggedColumns(self._engine.spec.inputs, prepared.inputs, prepared.steps),
                None,
                state=self._execution.state_of(prepared),
                owner=batch.owner,
                done=partial(self._finish_job, prepared),
                is_cancelled=lambda: batch.cancelled,
                deadline_s=batch.deadline_s,
                begins=(batch.positions if prepared.rows is None else batch.positions[prepared.rows]) == 0,
                received_s=batch.received_s,
                span=batch.span,
            )
        except Exception as error:
            self._answers.fail([batch], error)
            return
        self._table.busy[prepared.slots] = True
        try:
            self._sequences.start(request)
        except Exception as error:
            self.free(prepared.slots)
            self._answers.fail([batch], error)

    def _finish_job(
        self, prepared: PreparedBatch, job: SequenceResults, failure: ServiceError | None
    ) -> None:
        self.free(prepared.slots)
        (batch,) = prepared.batches
        batch.begun_s = job.begun_s
        if failure is not None:
            self._answers.answer(batch, failure)
            return
        try:
            outputs, state, good = job.results()
            self._execution.commit(prepared, outputs.arrays, state, np.flatnonzero(~good).tolist())
        except Exception as error:
            self._answers.fail(prepared.batches, error)
