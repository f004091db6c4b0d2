"""Starts sequences: each request as one job, or behind the beginnings that the prefix tree knows.

Ends requests whose rows wait for chunks of others when nobody waits for them any more. Starts no task and no
timer: while a row waits, a job of the same scheduler runs, and every turn of the scheduler looks here.
"""

import logging
from collections.abc import Callable

from statewise.service.base import abandoned, server_fault
from statewise.service.scheduling.jobs._job_queue import JobQueue
from statewise.service.scheduling.jobs._prefixed_sequences import PrefixedSequences
from statewise.service.scheduling.jobs._queue_limits import QueuedSteps
from statewise.service.scheduling.jobs._sequence_job import SequenceJob
from statewise.service.scheduling.jobs._sequence_request import SequenceRequest
from statewise.service.scheduling.prefixes import PrefixTree
from statewise.wire import ModelSpec

_log = logging.getLogger(__name__)

_LOOK_S = 0.02
"""Pause between two looks at the deadlines of all requests that wait."""


class SequenceStarter:
    """Starts the sequences of one graph.

    Args:
        spec: The graph's.
        queue: Takes jobs.
        queued: Counts the time steps of requests until they are done.
        tree: Knows beginnings; None: every row is run from where it starts.
        count: Counts a row that was looked up, by the time steps that this saved.
        clock: Seconds, monotonic; deadlines are on it.
    """

    def __init__(
        self,
        spec: ModelSpec,
        queue: JobQueue,
        queued: QueuedSteps,
        tree: PrefixTree | None,
        *,
        count: Callable[[int], None],
        clock: Callable[[], float],
    ) -> None:
        self._spec = spec
        self._queue = queue
        self._queued = queued
        self._tree = tree
        self._count = count
        self._clock = clock
        self.under_way: dict[PrefixedSequences, int] = {}
        """Requests with rows that were looked up, and the time steps counted for each alone."""
        self._woken: dict[PrefixedSequences, None] = {}
        self._look_s = 0.0

    @property
    def has_woken(self) -> bool:
        """Whether rows that waited may run: `run_woken` is to be called soon."""
        return bool(self._woken)

    def start(self, request: SequenceRequest, *, queued_steps: int = 0) -> None:
        """Starts a request, whose `received_s` and `span` are set.

        Args:
            request: The sequences.
            queued_steps: Time steps that the scheduler's queue counts for it alone, until it is done.
        """
        tree = self._tree
        if tree is None or not _is_looked_up(request, tree.chunk_steps):
            job = SequenceJob(
                self._spec,
                request.inputs,
                request.rows,
                state=request.state,
                done=request.done,
                is_cancelled=request.is_cancelled,
                deadline_s=request.deadline_s,
            )
            job.queued_steps, job.received_s, job.span = queued_steps, request.received_s, request.span
            self._queue.add(job)
            return
        sequences = PrefixedSequences(
            self._spec,
            request,
            tree,
            count=self._count,
            submit=self._queue.add,
            clock=self._clock,
            woken=self._wake,
            ended=self._end,
        )
        self.under_way[sequences] = queued_steps
        self._guard(sequences, sequences.begin)

    def run_woken(self) -> None:
        """Runs rows that waited and may run now."""
        woken, self._woken = self._woken, {}
        for sequences in woken:
            self._guard(sequences, sequences.run_ready)

    def end_abandoned(self) -> None:
        """Ends requests with rows that wait, where nobody waits for the request any more."""
        now_s = self._clock()
        self._look_s = now_s + _LOOK_S
        for sequences in [one for one in self.under_way if one.is_waiting]:
            request = sequences.request
            failure = abandoned(request.is_cancelled(), request.deadline_s, now_s)
            if failure is not None:
                sequences.abandon(failure)

    def look(self) -> None:
        """Ends abandoned requests from time to time; called in every turn of the scheduler."""
        if self.under_way and self._clock() >= self._look_s:
            self.end_abandoned()

    def _guard(self, sequences: PrefixedSequences, act: Callable[[], None]) -> None:
        """Ends a request that the server fails on: what it has claimed would keep others waiting."""
        try:
            act()
        except Exception as error:
            _log.error("sequences cannot be run", exc_info=error)
            sequences.abandon(server_fault())

    def _wake(self, sequences: PrefixedSequences) -> None:
        self._woken[sequences] = None

    def _end(self, sequences: PrefixedSequences) -> None:
        self._queued.count -= self.under_way.pop(sequences)


def _is_looked_up(request: SequenceRequest, shortest: int) -> bool:
    """Returns whether any row is at its beginning and long enough."""
    long_enough = request.lengths >= shortest
    return bool((long_enough if request.begins is None else long_enough & request.begins).any())
