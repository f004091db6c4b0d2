"""Decides whether a failed request is worth another try, until when, and after which pause.

One policy serves all requests; `RetryRules` hold what differs between the session stream, single calls and
bulk work. The callers of a policy perform the pause: operations on the session stream share the pause of
their connection, plans wait on their own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from statewise.client.retries._backoff import Backoff
from statewise.client.values import Status
from statewise.wire import Reason

_FEW_TRIES = 4
"""Enough to bridge a broken connection, and few enough to report a wrong address soon."""
# A message over the transport's limit ends the stream and every request on it. The request that meets this
# twice is the one that is too large.
_OVERSIZED_TRIES = 2


class Cause(Enum):
    """Why a request failed, as far as another try may help."""

    LOST = auto()
    """The connection broke before the reply came."""
    OVERSIZED = auto()
    """The connection broke over a message larger than the transport allows."""
    UNREACHABLE = auto()
    """No server was reached."""
    DRAINING = auto()
    """The server is shutting down."""
    NO_TLS = auto()
    """TLS on one side only, or a certificate that is not accepted."""
    LOADING = auto()
    """The model is being loaded, or the server's session store does not answer."""
    UNUSABLE = auto()
    """The model's package cannot be loaded until an operator replaces it."""
    OVERLOADED = auto()
    """The model's queue is full."""
    CANCELLED = auto()
    """The server gave the request up."""


_REFUSED_CODES = ("UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED")
_CAUSE_OF_REASON: dict[str, Cause] = {
    Reason.DRAINING: Cause.DRAINING,
    Reason.MODEL_LOADING: Cause.LOADING,
    Reason.STORE_UNAVAILABLE: Cause.LOADING,
    Reason.PACKAGE_INVALID: Cause.UNUSABLE,
    Reason.QUEUE_FULL: Cause.OVERLOADED,
}
_CAUSE_OF_CODE = {"UNAVAILABLE": Cause.UNREACHABLE, "CANCELLED": Cause.CANCELLED}


def _cause_of(status: Status) -> Cause | None:
    """None: another try cannot help."""
    if status.tls_failed:
        return Cause.NO_TLS
    if status.lost:
        if status.code in _REFUSED_CODES:
            return None
        return Cause.OVERSIZED if status.code == "RESOURCE_EXHAUSTED" else Cause.LOST
    return _CAUSE_OF_REASON.get(status.reason) or _CAUSE_OF_CODE.get(status.code)


@dataclass(frozen=True, slots=True)
class RetryRules:
    """The failures after which a kind of request is tried again."""

    for_a_period: frozenset[Cause]
    """Tried again until `retry_for_s` after the first of these failures."""
    few_times: frozenset[Cause] = frozenset()
    """Tried again until the request failed four times."""

    def cover(self, status: Status) -> bool:
        """Returns whether another try may help after such a failure."""
        cause = _cause_of(status)
        return cause in self.for_a_period or cause in self.few_times


# A certificate may be renewed at this moment. A wrong port stays wrong, so it is reported soon.
_SETTINGS = frozenset({Cause.NO_TLS})
STREAM_RULES = RetryRules(
    frozenset({Cause.LOST, Cause.OVERSIZED, Cause.DRAINING, Cause.LOADING}), few_times=_SETTINGS
)
"""Requests about sessions, which the client must not lose."""
_AWAY = frozenset({Cause.LOST, Cause.UNREACHABLE, Cause.DRAINING, Cause.CANCELLED})
CALL_RULES = RetryRules(_AWAY | {Cause.LOADING}, few_times=_SETTINGS)
"""Predictions and generations, and what they look up: calls that change nothing, so that a server which is
away for a while fails none of them."""
QUESTION_RULES = RetryRules(frozenset({Cause.LOADING}), few_times=_AWAY | _SETTINGS)
"""Questions about the server: they fail soon where no server answers."""
BULK_RULES = RetryRules(frozenset(Cause))
"""Bulk work, which runs unattended: every failure that may pass is waited for."""


@dataclass(slots=True)
class RetryPolicy:
    """The tries of one request.

    Args:
        rules: which failures are worth another try.
        clock: monotonic seconds.
        backoff: gives the pauses.
        retry_for_s: how long failures of a `for_a_period` cause are retried.
        deadline_s: time of `clock` at which the caller gives up; None: never.
    """

    rules: RetryRules
    clock: Callable[[], float]
    backoff: Backoff
    retry_for_s: float
    deadline_s: float | None = None
    last_failure: Status | None = field(default=None, init=False)
    """The last failure after which the request was to be sent again; None: none since the last answer."""
    _failures: int = field(default=0, init=False)
    _oversized: int = field(default=0, init=False)
    _period_end_s: float | None = field(default=None, init=False)
    _longest_pause_s: float = field(default=math.inf, init=False)

    @property
    def left_s(self) -> float | None:
        """Seconds until the deadline, at least a millisecond; None: no deadline."""
        return None if self.deadline_s is None else max(self.deadline_s - self.clock(), 0.001)

    @property
    def time_is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline_s is not None and self.clock() >= self.deadline_s

    def try_again_after(self, status: Status) -> bool:
        """Counts a failure; returns whether the request is to be sent again."""
        again = self._covers_another_try(status)
        if again:
            self.last_failure = status
        return again

    def _covers_another_try(self, status: Status) -> bool:
        self._failures += 1
        cause = _cause_of(status)
        if cause in self.rules.few_times:
            self._longest_pause_s = math.inf
            return self._failures < _FEW_TRIES
        if cause not in self.rules.for_a_period:
            return False
        if cause is Cause.OVERSIZED:
            self._oversized += 1
            if self._oversized == _OVERSIZED_TRIES:
                return False
        now_s = self.clock()
        if self._period_end_s is None:
            self._period_end_s = now_s + self.retry_for_s
        self._longest_pause_s = self._period_end_s - now_s
        return self._longest_pause_s > 0

    def pause_s(self, status: Status) -> float:
        """Returns seconds to wait before the next try: never past the period or the deadline."""
        delay_s = self.backoff.delay_s(self._failures - 1)
        if _cause_of(status) is Cause.OVERLOADED:
            delay_s = max(delay_s, status.retry_after_s)
        left_s = self.left_s
        return min(delay_s, self._longest_pause_s, math.inf if left_s is None else left_s)

    def note_progress(self) -> None:
        """Counts anew: a part of the request was answered since the last failure."""
        self._failures = 0
        self._period_end_s = self.last_failure = None
