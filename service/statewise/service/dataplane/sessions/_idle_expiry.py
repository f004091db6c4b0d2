"""Expires sessions that were not used for `idle_timeout_s`; the server's repeated task calls it.

With a store they leave memory only, once the store has them. Never waits: a session that is running is in
use, and is not found.
"""

from collections.abc import Callable, Iterator

from statewise.service.dataplane.sessions._session_directory import SessionDirectory
from statewise.service.dataplane.sessions._stored_sessions import StoredSessions
from statewise.service.session_state import SessionScan


class IdleExpiry:
    """Ends idle sessions.

    Args:
        scan: Searches the table.
        directory: Ends sessions.
        idle_timeout_s: Time after which an unused session expires.
        clock: Seconds, monotonic; the table's.
        stored: Sessions of the store; None: there is no store.
    """

    def __init__(
        self,
        scan: SessionScan,
        directory: SessionDirectory,
        *,
        idle_timeout_s: float,
        clock: Callable[[], float],
        stored: StoredSessions | None = None,
    ) -> None:
        self._scan = scan
        self._directory = directory
        self._idle_timeout_s = idle_timeout_s
        self._clock = clock
        self._stored = stored

    def expire(self) -> Iterator[int]:
        """Ends the sessions that were idle for longer than the limit, in portions; gives the size of each.

        Between two portions the caller may yield to the event loop.
        """
        limit_s, cause = self._clock() - self._idle_timeout_s, "idle"
        if self._stored is not None:
            limit_s, cause = min(limit_s, self._stored.checkpoints.stored_until_s), "asleep"
        start: int | None = 0
        while start is not None:
            slots, start = self._scan.idle_since(limit_s, start)
            if self._stored is not None and slots:
                kept = set(self._stored.room.kept_sessions().tolist())
                slots = [slot for slot in slots if slot not in kept]
            for slot in slots:
                self._directory.end(slot, cause=cause)
            yield len(slots)
