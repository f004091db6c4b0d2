"""Gathers what is ready into batches, runs them, and puts results and states where they belong.

One scheduler per model version, on one event loop. Two lanes: single steps of many sessions run together at
the next turn of the loop; longer work runs in pieces of some milliseconds, so that a step never waits for a
whole sequence. Requests of one session run in the order they came. Whatever goes wrong, every frame and every
job gets exactly one answer.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, ParamSpec
from weakref import WeakMethod

import numpy as np

from statewise.service.base import Barrier, ServiceError, Slots, StepBatch, StepResult, server_fault
from statewise.service.engine import Engine, EngineProfile, RunResult, run_batch
from statewise.service.scheduling._job import Job, JobSlice
from statewise.service.scheduling._job_queue import GivenUp, JobQueue
from statewise.service.scheduling._sequence_job import SequenceJob
from statewise.service.scheduling._single_step import SingleStep
from statewise.service.scheduling._step_execution import GatheredBatch, PreparedBatch, StepExecution
from statewise.service.scheduling._step_queue import StepQueue
from statewise.service.session_state import SessionTable, StateArena
from statewise.service.telemetry import ModelStatistics, SlowRequests
from statewise.wire import Reason

if TYPE_CHECKING:
    from statewise.service.tracing import Tracing

_log = logging.getLogger(__name__)

_SHORTEST_RETRY_S = 0.05
_P = ParamSpec("_P")


class Scheduler:
    """Runs the work of one model version.

    Args:
        engine: Runs batches.
        arena: Holds the sessions' states.
        table: Holds the sessions.
        test: What the engine may do, and what it costs.
        executor: Where runs go that would hold up the event loop.
        clock: Seconds, monotonic; deadlines are on it.
        queue_steps: Time steps that may wait.
        queue_s: Seconds that new long work may have to wait.
        inline_s: Runs expected to be shorter happen on the event loop.
        piece_s: How long a piece of long work may take.
        slow: Tells of requests that took long.
        tracing: Makes spans of runs; None: there are none.
    """

    def __init__(
        self,
        engine: Engine,
        arena: StateArena,
        table: SessionTable,
        test: EngineProfile,
        *,
        executor: Executor,
        clock: Callable[[], float],
        queue_steps: int,
        queue_s: float,
        inline_s: float,
        piece_s: float,
        slow: SlowRequests,
        tracing: "Tracing | None",
    ) -> None:
        self._engine = engine
        self._table = table
        self._test = test
        self._together = test.together
        self._executor = executor
        self._clock = clock
        self._queue_limit = queue_steps
        self._queue_s = queue_s
        self._inline_s = inline_s
        self._slow = slow
        self._tracing = tracing
        self._queued_steps = 0
        mixes = test.together and engine.spec.lengths is not None
        self._lane = JobQueue(test, mixes=mixes, clock=clock, piece_s=piece_s)
        self._turn_planned = False
        self._frames_running = False
        self._piece_running = False
        self._per_step = [entry.per_step for entry in engine.spec.inputs]
        self._admission = StepExecution(engine.spec, arena, table, answer=_weakly(WeakMethod(self._answer)))
        self._inbox = StepQueue(
            table,
            self._admission,
            clock=clock,
            start=_weakly(WeakMethod(self._start_sequences)),
            refuse=_weakly(WeakMethod(self._answer)),
        )
        self._lone = SingleStep(engine, arena, table)
        self.statistics = ModelStatistics()

    @property
    def queued_steps(self) -> int:
        """Time steps that wait or run."""
        return self._queued_steps

    # --- asking for work ---

    def check_room(self, time_steps: int) -> None:
        """Raises ServiceError (QUEUE_FULL) where long work of that many time steps would have to wait too
        long, or pass the limit of the queue.
        """
        if self._lane.wait_s > self._queue_s:
            self._end_all(self._lane.drop_given_up())
        wait_s = self._lane.wait_s
        if wait_s > self._queue_s:
            raise _queue_full(
                f"new work would wait for about {wait_s:.1f} s; expected at most {self._queue_s:g} s",
                wait_s - self._queue_s / 2,
            )
        self._check_queue(time_steps)

    def _check_queue(self, time_steps: int) -> None:
        if self._queued_steps + time_steps > self._queue_limit:
            raise _queue_full(
                f"{self._queued_steps} time steps wait already, of {self._queue_limit} that may",
                self._queued_steps * self._lane.step_s,
            )

    def submit(self, frame: StepBatch) -> None:
        """Takes a frame, or raises ServiceError (QUEUE_FULL)."""
        self._check_queue(frame.time_steps)
        frame.received_s = self._clock()
        if self._tracing is not None:
            frame.span = self._tracing.describe(frame)
        self._queued_steps += frame.time_steps
        self._inbox.add(frame)
        self._plan_turn()

    @contextmanager
    def reserve_capacity(self, time_steps: int) -> Iterator[Callable[[int], None]]:
        """Counts time steps as waiting, for work that comes in stages. Raises ServiceError (QUEUE_FULL).

        Gives a function that lets go of so many of them; the rest goes at the end.
        """
        self.check_room(time_steps)
        self._queued_steps += time_steps
        held = time_steps

        def release_steps(steps: int) -> None:
            nonlocal held
            steps = min(steps, held)
            held -= steps
            self._queued_steps -= steps

        try:
            yield release_steps
        finally:
            release_steps(held)

    def release(self, slots: Slots) -> None:
        """Lets go of sessions that a control made busy."""
        self._table.busy[slots] = False
        self._inbox.sessions_freed()
        self._plan_turn()

    def submit_barrier(self, control: Barrier) -> None:
        """Takes an operation that keeps its place among the frames."""
        self._inbox.add(control)
        self._plan_turn()

    def submit_job(self, job: Job, *, held: bool = False) -> None:
        """Takes a job, whatever the queue holds: who has many checks for room once for all of them.

        Args:
            job: The job.
            held: Its time steps are counted already (see `reserve_capacity`).
        """
        job.queued_steps = 0 if held else job.time_steps
        job.received_s = self._clock()
        if self._tracing is not None:
            job.span = self._tracing.current()
        self._queued_steps += job.queued_steps
        self._lane.add(job)
        self._plan_turn()

    # --- turns of the event loop ---

    def _plan_turn(self) -> None:
        if not self._turn_planned:
            self._turn_planned = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_planned = False
        if self._inbox and not self._frames_running and not self._ran_alone():
            selected, again = self._inbox.take()
            if selected is not None:
                self._run_frames(selected)
            if again:
                self._plan_turn()
        if self._lane and not self._piece_running:
            self._run_piece()

    def _ran_alone(self) -> bool:
        """Runs what waits where that is one step of one session and nothing is unusual about it."""
        begun_s = self._clock()
        frame = self._inbox.lone_step(begun_s)
        if frame is None or self._cost_s(1, 1) > self._inline_s:
            return False
        try:
            result = self._lone.run(frame)
        except Exception as error:
            self._inbox.remove_lone_step()
            self._fail([frame], error)
            return True
        if result is None:
            return False
        self._inbox.remove_lone_step()
        frame.begun_s = begun_s
        self.statistics.single.begin(1, (frame.received_s,), begun_s)
        self.statistics.single.run_s.observe(self._clock() - begun_s)
        if self._tracing is not None:
            self._tracing.ran("single", [frame.span], rows=1, begun_s=begun_s)
        self._answer(frame, result)
        return True

    def _admit(self, selected: GatheredBatch) -> PreparedBatch:
        admitted = self._admission.admit(selected)
        if admitted.retry is not None:
            self.statistics.retried_rows += int(np.count_nonzero(admitted.retry))
        return admitted

    def _answer(self, frame: StepBatch, result: StepResult | ServiceError) -> None:
        if frame.answered:
            return
        frame.answered = True
        self._queued_steps -= frame.time_steps
        latency_s = self._clock() - frame.received_s
        self.statistics.answered_step(frame, result, latency_s)
        if latency_s >= self._slow.limit_s:
            self._slow.tell_step(frame, latency_s)
        try:
            frame.reply(result)
        except Exception as error:
            _log.error("a reply could not be given", exc_info=error)

    def _fail(self, frames: Sequence[StepBatch], error: BaseException) -> None:
        """A fault of ours: the detail goes to the log, the callers get INTERNAL."""
        _log.error("a batch failed", exc_info=error)
        failure = server_fault()
        for frame in frames:
            self._answer(frame, failure)

    # --- the lane of single steps ---

    def _run_frames(self, selected: GatheredBatch) -> None:
        """Runs single steps: on the event loop where that is short, else in a thread."""
        try:
            admitted = self._admit(selected)
            rows = len(admitted.slots)
            if rows == 0:
                self._admission.refuse(admitted)
                return
            inputs = [
                array[None] if by_step else array
                for array, by_step in zip(admitted.inputs, self._per_step, strict=True)
            ]
            state = self._admission.state_of(admitted)
        except Exception as error:
            self._fail(selected.frames, error)
            return
        begun_s = self._clock()
        for frame in admitted.frames:
            frame.begun_s = begun_s
        self.statistics.single.begin(rows, [frame.received_s for frame in admitted.frames], begun_s)
        run = partial(
            run_batch, self._engine, inputs, np.ones(rows, np.int32), state, together=self._together
        )
        if self._cost_s(rows, 1) <= self._inline_s:
            self._finish_frames(admitted, run, begun_s)
            return
        self._table.busy[admitted.slots] = True
        self._frames_running = True

        def finish(ran: asyncio.Future[RunResult]) -> None:
            self._frames_running = False
            self._table.busy[admitted.slots] = False
            self._inbox.sessions_freed()
            self._finish_frames(admitted, ran.result, begun_s)
            self._plan_turn()

        self._in_thread(run).add_done_callback(finish)

    def _finish_frames(self, admitted: PreparedBatch, run: Callable[[], RunResult], begun_s: float) -> None:
        try:
            result = run()
            self.statistics.single.run_s.observe(self._clock() - begun_s)
            if self._tracing is not None:
                spans = [frame.span for frame in admitted.frames]
                self._tracing.ran("single", spans, rows=len(admitted.slots), begun_s=begun_s)
            outputs = [
                array[0] if entry.per_step else array
                for array, entry in zip(result.outputs, self._engine.spec.outputs, strict=True)
            ]
            if result.failed:
                ran_well = np.ones(len(admitted.slots), np.bool_)
                ran_well[result.failed] = False
                outputs = [array[ran_well] for array in outputs]
            self._admission.settle(admitted, outputs, result.state, result.failed)
        except (Exception, asyncio.CancelledError) as error:
            self._fail(admitted.frames, error)

    # --- the lane of long work ---

    def _start_sequences(self, frame: StepBatch) -> None:
        """Turns a frame of chunks into a job; its sessions are busy until the job is done."""
        try:
            admitted = self._admit(self._admission.select([frame]))
            if len(admitted.slots) == 0:
                self._admission.refuse(admitted)
                return
            assert admitted.steps is not None
            job = SequenceJob(
                self._engine.spec,
                inputs=admitted.inputs,
                lengths=admitted.steps,
                state=self._admission.state_of(admitted),
                done=partial(self._finish_sequences, admitted),
                is_cancelled=lambda: frame.cancelled,
                deadline_s=frame.deadline_s,
            )
        except Exception as error:
            self._fail([frame], error)
            return
        job.received_s, job.span = frame.received_s, frame.span
        self._table.busy[admitted.slots] = True
        self._lane.add(job)

    def _finish_sequences(
        self, admitted: PreparedBatch, job: SequenceJob, failure: ServiceError | None
    ) -> None:
        self._table.busy[admitted.slots] = False
        self._inbox.sessions_freed()
        admitted.frames[0].begun_s = job.begun_s
        if failure is not None:
            self._answer(admitted.frames[0], failure)
            return
        try:
            outputs, state, good = job.results()
            if not good.all():
                by_step = np.repeat(good, job.request_lengths)
                outputs = [
                    array[by_step if entry.per_step else good]
                    for array, entry in zip(outputs, self._engine.spec.outputs, strict=True)
                ]
            self._admission.settle(admitted, outputs, state, np.flatnonzero(~good).tolist())
        except Exception as error:
            self._fail(admitted.frames, error)

    def _run_piece(self) -> None:
        """Runs the next piece of the jobs in the lane."""
        piece, dropped = self._lane.next_slice()
        self._end_all(dropped)
        if piece is None:
            return
        pace = piece.parts[0].job.pace
        cost_s = self._cost_s if pace is None else pace.cost_s
        begun_s = self._clock()
        fresh = [part.job for part in piece.parts if part.job.time == 0]
        for job in fresh:
            job.begun_s = begun_s
        self.statistics.long.begin(piece.rows, [job.received_s for job in fresh], begun_s)
        run = partial(piece.run, self._engine, together=self._together)
        if cost_s(piece.rows, piece.steps) <= self._inline_s:
            self._finish_piece(piece, run, begun_s)
            return
        self._piece_running = True

        def finish(ran: asyncio.Future[RunResult]) -> None:
            self._piece_running = False
            self._finish_piece(piece, ran.result, begun_s)

        self._in_thread(run).add_done_callback(finish)

    def _finish_piece(self, piece: JobSlice, run: Callable[[], RunResult], begun_s: float) -> None:
        try:
            result = run()
            self.statistics.long.run_s.observe(self._clock() - begun_s)
            if self._tracing is not None:
                spans = [part.job.span for part in piece.parts]
                self._tracing.ran("long", spans, rows=piece.rows, begun_s=begun_s)
            piece.share_out(self._engine, result)
        except (Exception, asyncio.CancelledError) as error:
            _log.error("a piece of long work failed", exc_info=error)
            self._lane.fail_piece(piece)
            failure = server_fault()
            for part in piece.parts:
                self._end(part.job, failure)
        else:
            for job in self._lane.end_piece(piece, begun_s=begun_s):
                self._end(job, None)
        self._plan_turn()

    def _end_all(self, dropped: Sequence[GivenUp]) -> None:
        for job, failure in dropped:
            self._end(job, failure)

    def _end(self, job: Job, failure: ServiceError | None) -> None:
        self._queued_steps -= job.queued_steps
        job.ended_s = self._clock()
        job.done(job, failure)

    # --- small things ---

    def _cost_s(self, rows: int, steps: int) -> float:
        if self._together:
            return self._test.cost_s(rows, steps)
        return rows * self._test.cost_s(1, steps)

    def _in_thread(self, run: Callable[[], RunResult]) -> asyncio.Future[RunResult]:
        return asyncio.get_running_loop().run_in_executor(self._executor, run)


def _queue_full(what: str, retry_after_s: float) -> ServiceError:
    retry_after_s = max(_SHORTEST_RETRY_S, retry_after_s)
    return ServiceError(
        Reason.QUEUE_FULL, f"{what}; try again in {retry_after_s:.2f} s", retry_after_s=retry_after_s
    )


def _weakly(method: "WeakMethod[Callable[_P, None]]") -> Callable[_P, None]:
    """So that a version nobody holds, with its graph, is freed at once and not when cycles are looked for."""

    def call(*args: _P.args, **kwargs: _P.kwargs) -> None:
        alive = method()
        if alive is not None:
            alive(*args, **kwargs)

    return call
