"""Logs why the store fails, and when it works again: in few lines, however many requests and ticks fail."""

import logging
import time
from collections.abc import Callable

from statewise.service.stores import StoreError

_log = logging.getLogger(__name__)

_MINUTE_S = 60.0
_MOST_LINES = 20


class StoreLog:
    """The log of one store. An outage tells each reason once a minute; all together fill 20 lines a minute.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: set[str] = set()
        self._minute_s = clock()
        self._lines = 0

    def error(self, what: str, error: Exception) -> None:
        """Logs a failure, with its traceback if it is none that stores raise on purpose.

        Args:
            what: What cannot be done.
            error: Why.
        """
        self._begin_minute()
        reason = f"{what}: {error}"
        if reason not in self._told and self._lines <= _MOST_LINES:
            self._told.add(reason)
            self._write(logging.ERROR, reason, None if isinstance(error, StoreError) else error)

    def back(self) -> None:
        """Logs that the store works again. What fails from now on is another outage."""
        self._begin_minute()
        self._told.clear()
        self._write(logging.INFO, "sessions are being stored again", None)

    def lost(self, sessions: int) -> None:
        """Logs that the store has lost everything, and that sessions in memory are written to it anew."""
        self._begin_minute()
        line = f"the session store came back empty: {sessions} sessions in memory are written to it anew; "
        self._write(logging.WARNING, line + "sessions that it alone had are lost", None)

    def _begin_minute(self) -> None:
        if self._clock() - self._minute_s >= _MINUTE_S:
            self._minute_s, self._lines = self._clock(), 0
            self._told.clear()

    def _write(self, level: int, line: str, unexpected: Exception | None) -> None:
        self._lines += 1
        if self._lines <= _MOST_LINES:
            _log.log(level, "%s", line, exc_info=unexpected)
        elif self._lines == _MOST_LINES + 1:
            _log.warning("the store fails in many ways; further lines are left out for up to a minute")
