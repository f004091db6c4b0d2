"""Answers step batches, each exactly once."""

import logging
from collections.abc import Callable, Sequence

from statewise.service.base import ServiceError, StepBatch, StepResult, server_fault
from statewise.service.scheduling.jobs import QueuedSteps
from statewise.service.telemetry import ModelStatistics, SlowRequests

_log = logging.getLogger(__name__)


class StepAnswers:
    """Calls the `reply` of step batches, and counts the answers.

    Args:
        statistics: Statistics of the model version.
        slow: Logs requests that took long.
        queued: Counts the batches' time steps until they are answered.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        statistics: ModelStatistics,
        slow: SlowRequests,
        queued: QueuedSteps,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._statistics = statistics
        self._slow = slow
        self._queued = queued
        self._clock = clock

    def answer(self, batch: StepBatch, result: StepResult | ServiceError) -> None:
        """Answers a batch that has no answer yet."""
        if batch.answered:
            return
        batch.answered = True
        self._queued.count -= batch.time_steps
        latency_s = self._clock() - batch.received_s
        self._statistics.count_step(batch, result, latency_s)
        if latency_s >= self._slow.limit_s:
            self._slow.log_step(batch, latency_s)
        try:
            batch.reply(result)
        except Exception as error:
            _log.error("a reply could not be given", exc_info=error)

    def fail(self, batches: Sequence[StepBatch], error: BaseException) -> None:
        """Answers batches that a fault of the server ended: the log gets the detail, callers get INTERNAL."""
        _log.error("a batch failed", exc_info=error)
        failure = server_fault()
        for batch in batches:
            self.answer(batch, failure)
