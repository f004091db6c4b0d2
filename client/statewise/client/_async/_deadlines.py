"""Waits that end in time, on an event loop: one timer for all that have one timeout, the first is due first.

asyncio's own timeout is a timer and several objects for every wait, as much as all else that a step costs.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from statewise.client.requests import patience_s
from statewise.client.stream import UnderWay

# Callers that compute what is left of their time have another timeout for every wait.
_KEPT_WITHOUT_WAITS = 64


class Deadlines:
    """What is under way, by its timeout.

    Args:
        loop: whose clock and timers these are.
        expire: called with what took too long, and its timeout in seconds.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, expire: Callable[[UnderWay[Any], float], None]
    ) -> None:
        self._loop = loop
        self._expire = expire
        self._queues: dict[float, _Queue] = {}

    def add(self, under_way: UnderWay[Any], timeout_s: float) -> None:
        """Watches something that begins now."""
        queue = self._queues.get(timeout_s)
        if queue is None:
            wait_s = patience_s(timeout_s)
            timer = self._loop.call_later(wait_s, self._look, timeout_s)
            queue = self._queues[timeout_s] = _Queue(wait_s, timer)
        queue.due_s[under_way] = self._loop.time() + queue.wait_s

    def discard(self, under_way: UnderWay[Any], timeout_s: float) -> None:
        """Watches it no longer."""
        queue = self._queues.get(timeout_s)
        if queue is None:
            return
        queue.due_s.pop(under_way, None)
        if not queue.due_s and len(self._queues) > _KEPT_WITHOUT_WAITS:
            self._drop(timeout_s)

    def close(self) -> None:
        """Ends all watching."""
        for timeout_s in list(self._queues):
            self._drop(timeout_s)

    def _look(self, timeout_s: float) -> None:
        queue = self._queues[timeout_s]
        now_s = self._loop.time()
        late = []
        next_s = None
        for under_way, due_s in queue.due_s.items():
            if due_s > now_s:
                next_s = due_s
                break
            late.append(under_way)
        for under_way in late:
            del queue.due_s[under_way]
        if next_s is None:
            del self._queues[timeout_s]
        else:
            queue.timer = self._loop.call_at(next_s, self._look, timeout_s)
        for under_way in late:
            self._expire(under_way, timeout_s)

    def _drop(self, timeout_s: float) -> None:
        self._queues.pop(timeout_s).timer.cancel()


class _Queue:
    __slots__ = ("due_s", "timer", "wait_s")

    def __init__(self, wait_s: float, timer: asyncio.TimerHandle) -> None:
        self.wait_s = wait_s
        self.timer = timer
        self.due_s: dict[UnderWay[Any], float] = {}
        """In the order in which they are due."""
