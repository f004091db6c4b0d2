"""Trying again: when it can help, for how long, and whose turn it is."""

from collections import deque
from dataclasses import dataclass
from typing import Any

from statewise.client.stream._effects import Exchange, Pause
from statewise.client.stream._multiplexer import StreamMultiplexer
from statewise.client.stream._protocols import Operation, RequestQueue, Waiter
from statewise.client.values import Failed, Status, Subject, error_of, status_of_row
from statewise.wire import Reason

_PASSING = (Reason.DRAINING, Reason.MODEL_LOADING)
# Trying again cannot help: the connection was refused for what we are or asked.
_FINAL_CODES = ("UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED")
# A message over a limit ends the stream and every request on it; whose it was shows on the second try.
_TRIES_OVERSIZED = 2


@dataclass(slots=True)
class RetryPolicy:
    """How long one operation keeps trying."""

    multiplexer: StreamMultiplexer
    since: float | None = None
    oversized: int = 0

    def again(self, status: Status) -> Operation[bool]:
        """Waits before another try, or says that it is of no use or the time is over (False)."""
        passing = status.lost or status.reason in _PASSING
        if not passing or status.code in _FINAL_CODES or self.multiplexer.closed:
            return False
        if status.code == "RESOURCE_EXHAUSTED":
            self.oversized += 1
            if self.oversized == _TRIES_OVERSIZED:
                return False
        now = self.multiplexer.clock()
        self.since = now if self.since is None else self.since
        if now - self.since >= self.multiplexer.retry_for_s:
            return False
        yield Pause()
        return True


def exchange(
    multiplexer: StreamMultiplexer, name: str, message: Any, subject: Subject, *, alone: bool = False
) -> Operation[Any]:
    """A request that may be repeated, and its reply.

    Args:
        multiplexer: where to.
        name: of the operation.
        message: the request.
        subject: what it is about.
        alone: it has one row, and what fails that row fails the request.

    Raises:
        StatewiseError: it failed as a whole.
    """
    policy = RetryPolicy(multiplexer)
    while True:
        try:
            reply = yield Exchange(name, [message.SerializeToString()])
        except Failed as failed:
            status = failed.status
        else:
            if not (alone and reply.errors):
                return reply
            status = status_of_row(reply.errors[0])
        if not (yield from policy.again(status)):
            raise error_of(status, subject)


class AcquireTurn:
    """Waits until the requests before this one are done.

    Args:
        waiting: who waits.
        first: before the others, though it came later: it belongs to the request that is being done.
    """

    __slots__ = ("_first", "_waiting")

    def __init__(self, waiting: deque[Waiter], *, first: bool = False) -> None:
        self._waiting = waiting
        self._first = first

    def begin(self, queue: RequestQueue, waiter: Waiter) -> None:
        """Queues."""
        if self._first:
            self._waiting.appendleft(waiter)
        else:
            self._waiting.append(waiter)

    def withdraw(self, queue: RequestQueue, waiter: Waiter) -> bool:
        """Always: nothing was sent."""
        self._waiting.remove(waiter)
        return True
