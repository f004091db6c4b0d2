"""Tells of requests that took long, in the log, with what is needed to find them again.

At most `_LINES` lines a second, however many are slow: then it says how many it kept to itself.
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
    """Judges and tells.

    Args:
        limit_s: Requests that take this long are slow; 0: none is.
        table: Knows the names of sessions.
        model_of: Name and version by the number that the table knows.
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
        self._told = 0
        self._untold = 0

    def tell_step(self, frame: StepBatch, latency_s: float) -> None:
        """Of a frame of sessions, the first ones by name where they are still open."""
        number = self._table.model_of_handle(int(frame.handles[0]), owner=frame.owner)
        self.tell(
            "step",
            latency_s,
            queue_s=frame.begun_s - frame.received_s if frame.begun_s else None,
            model=None if number is None else self._model_of(number),
            rows=len(frame.handles),
            steps=frame.time_steps,
            request_id=frame.request_id or None,
            session_ids=self._table.names_of(frame.handles[:_SESSIONS_NAMED], owner=frame.owner),
        )

    def tell(
        self, operation: str, latency_s: float, *, queue_s: float | None, model: ModelKey | None, **more: Any
    ) -> None:
        """Of any request; `more` goes into the log as it is."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._told = second, 0
        if self._told >= _LINES:
            self._untold += 1
            return
        self._told += 1
        untold, self._untold = self._untold, 0
        name, version = model or (None, None)
        _log.warning(
            "slow request: %.3f s",
            latency_s,
            extra=fields(
                operation=operation,
                model=name,
                version=version,
                latency_s=round(latency_s, 6),
                queue_s=None if queue_s is None else round(queue_s, 6),
                **more,
                others_not_told=untold or None,
            ),
        )
