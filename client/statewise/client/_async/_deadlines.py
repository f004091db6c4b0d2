"""Ends calls whose timeout is over, with one timer for all calls of the same timeout.

Calls of one timeout expire in the order in which they began. asyncio's own timeout makes a timer and several
objects for every wait, which costs as much as the rest of a step.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from statewise.client.requests import answer_wait_s
from statewise.client.stream import PendingCall

# Callers that pass the rest of a time budget have a new timeout for every wait.
_MOST_EMPTY_QUEUES = 64


class Deadlines:
    """Calls under way, by their timeout.

    Args:
        loop: its clock and timers are used.
        expire: called with a call that took too long, and its timeout in seconds.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, expire: Callable[[PendingCall[Any], float], None]
    ) -> None:
        self._loop = loop
        self._expire = expire
        self._queues: dict[float, _Queue] = {}

    def add(self, pending_call: PendingCall[Any], timeout_s: float) -> None:
        """Watches a call that begins now."""
        queue = self._queues.get(timeout_s)
        if queue is None:
            wait_s = answer_wait_s(timeout_s)
            timer = self._loop.call_later(wait_s, self._look, timeout_s)
            queue = self._queues[timeout_s] = _Queue(wait_s, timer)
        queue.due_s[pending_call] = self._loop.time() + queue.wait_s

    def discard(self, pending_call: PendingCall[Any], timeout_s: float) -> None:
        """Stops watching a call."""
        queue = self._queues.get(timeout_s)
        if queue is None:
            return
        queue.due_s.pop(pending_call, None)
        if not queue.due_s and len(self._queues) > _MOST_EMPTY_QUEUES:
            self._drop(timeout_s)

    def close(self) -> None:
        """Stops watching all calls."""
        for timeout_s in list(self._queues):
            self._drop(timeout_s)

    def _look(self, timeout_s: float) -> None:
        queue = self._queues[timeout_s]
        now_s = self._loop.time()
        late = []
        next_s = None
        for pending_call, due_s in queue.due_s.items():
            if due_s > now_s:
                next_s = due_s
                break
            late.append(pending_call)
        for pending_call in late:
            del queue.due_s[pending_call]
        if next_s is None:
            del self._queues[timeout_s]
        else:
            queue.timer = self._loop.call_at(next_s, self._look, timeout_s)
        for pending_call in late:
            self._expire(pending_call, timeout_s)

    def _drop(self, timeout_s: float) -> None:
        self._queues.pop(timeout_s).timer.cancel()


class _Queue:
    __slots__ = ("due_s", "timer", "wait_s")

    def __init__(self, wait_s: float, timer: asyncio.TimerHandle) -> None:
        self.wait_s = wait_s
        self.timer = timer
        self.due_s: dict[PendingCall[Any], float] = {}
        """Time at which each call expires, earliest first."""
