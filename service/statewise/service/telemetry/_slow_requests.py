"""Logs slow requests, with the ids that help to find them again.

Writes at most `_LINES` lines a second; the next line says how many slow requests were left out.
"""

import logging
import math
from collections.abc import Callable
from typing import Any

from statewise.service.base import ModelKey, StepBatch
from statewise.service.session_state import SessionTable
from statewise.service.telemetry._logs import fields

_log = logging.getLogger(__name__)

_LINES = 10
_SESSIONS_NAMED = 3


class SlowRequests:
    """Logs the requests that took longer than a limit.

    Args:
        limit_s: Time from which a request is slow; 0: no request is slow.
        table: Holds the sessions' ids.
        model_of: Gives name and version by a model's number in the table.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        limit_s: float,
        table: SessionTable,
        *,
        model_of: Callable[[int], ModelKey],
        clock: Callable[[], float],
    ) -> None:
        self.limit_s = limit_s or math.inf
        self._table = table
        self._model_of = model_of
        self._clock = clock
        self._second = -1
        self._logged = 0
        self._left_out = 0

    def log_step(self, batch: StepBatch, latency_s: float) -> None:
        """Logs a step with the ids of its first sessions, as far as they are still open."""
        number = self._table.model_of_handle(int(batch.handles[0]), owner=batch.owner)
        self.log(
            "step",
            latency_s,
            queue_s=batch.begun_s - batch.received_s if batch.begun_s else None,
            model=None if number is None else self._model_of(number),
            rows=len(batch.handles),
            steps=batch.time_steps,
            request_id=batch.request_id or None,
            session_ids=self._table.names_of(batch.handles[:_SESSIONS_NAMED], owner=batch.owner),
        )

    def log(
        self, operation: str, latency_s: float, *, queue_s: float | None, model: ModelKey | None, **more: Any
    ) -> None:
        """Logs a request; `more` are further fields of the line."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._logged = second, 0
        if self._logged >= _LINES:
            self._left_out += 1
            return
        self._logged += 1
        left_out, self._left_out = self._left_out, 0
        name, version = model or (None, None)
        _log.warning(
            "slow request: %.3g s",
            latency_s,
            extra=fields(
                operation=operation,
                model=name,
                version=version,
                latency_s=round(latency_s, 6),
                queue_s=None if queue_s is None else round(queue_s, 6),
                **more,
                others_not_told=left_out or None,
            ),
        )
