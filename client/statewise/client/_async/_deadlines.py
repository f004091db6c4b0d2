"""Waits that end in time, on an event loop: one timer for all that have one timeout, the first is due first.

asyncio's own timeout is a timer and several objects for every wait, as much as all else that a step costs.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from statewise.client.requests import answer_wait_s
from statewise.client.stream import PendingCall

# Callers that compute what is left of their time have another timeout for every wait.
_KEPT_WITHOUT_WAITS = 64


class Deadlines:
    """What is under way, by its timeout.

    Args:
        loop: whose clock and timers these are.
        expire: called with what took too long, and its timeout in seconds.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, expire: Callable[[PendingCall[Any], float], None]
    ) -> None:
        self._loop = loop
        self._expire = expire
        self._queues: dict[float, _Queue] = {}

    def add(self, pending_call: PendingCall[Any], timeout_s: float) -> None:
        """Watches something that begins now."""
        queue = self._queues.get(timeout_s)
        if queue is None:
            wait_s = answer_wait_s(timeout_s)
            timer = self._loop.call_later(wait_s, self._look, timeout_s)
            queue = self._queues[timeout_s] = _Queue(wait_s, timer)
        queue.due_s[pending_call] = self._loop.time() + queue.wait_s

    def discard(self, pending_call: PendingCall[Any], timeout_s: float) -> None:
        """Watches it no longer."""
        queue = self._queues.get(timeout_s)
        if queue is None:
            return
        queue.due_s.pop(pending_call, None)
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
        """In the order in which they are due."""
