"""A call outside the session stream: how often it is made, and for how long."""

from statewise.client.requests._plans import ClientOptions, Plan, Wait
from statewise.client.stream import Backoff
from statewise.client.values import Status, Subject, error_of
from statewise.wire import Reason

# A call that finds no server is tried this often: a restart is bridged, a wrong address is soon told.
_MOST = 4


class Attempts:
    """The tries of one call.

    Args:
        options: how the client behaves.
        backoff: waits between tries.
        timeout_s: for all of them together; None: no limit.
    """

    def __init__(self, options: ClientOptions, backoff: Backoff, timeout_s: float | None) -> None:
        self._clock = options.clock
        self._retry_for_s = options.retry_for_s
        self._backoff = backoff
        self._until_s = None if timeout_s is None else self._clock() + timeout_s
        self._failed = 0
        self._loading_since_s: float | None = None

    @property
    def left_s(self) -> float | None:
        """Time for the next try; None: no limit."""
        return None if self._until_s is None else max(self._until_s - self._clock(), 0.001)

    def begin_again(self) -> None:
        """Something was answered before the last try broke off."""
        self._failed = 0
        self._loading_since_s = None

    def again(self, status: Status, subject: Subject) -> Plan[None]:
        """Waits before the call is made once more.

        Raises:
            StatewiseError: that would be of no use.
        """
        if not self._helps(status):
            raise error_of(status, subject)
        delay_s, left_s = self._backoff.delay_s(self._failed), self.left_s
        self._failed += 1
        yield Wait(delay_s if left_s is None else min(delay_s, left_s))

    def _helps(self, status: Status) -> bool:
        if status.reason != Reason.MODEL_LOADING:
            return status.code == "UNAVAILABLE" and self._failed < _MOST - 1
        # Loading takes as long as it takes, and it is known that somebody is at work on it.
        now_s = self._clock()
        if self._loading_since_s is None:
            self._loading_since_s = now_s
        return now_s - self._loading_since_s < self._retry_for_s
