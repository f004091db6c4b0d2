"""Runs asyncio on gRPC's completion queue: one thread takes calls, runs steps and sends replies.

The loop of asyncio asks a selector which files are ready. Here the selector polls the queue instead, handles
every event that has happened, and only then lets the loop go on. So the loop's next turn sees all requests
that have arrived, and neither a thread nor a socket is between gRPC and the scheduler.
"""

import asyncio
import logging
import os
import selectors
import time
from collections.abc import Mapping
from typing import Any

from statewise.service.transport.queue import _core
from statewise.service.transport.queue._core import CompletionQueue
from statewise.service.transport.queue._file_watch import FileWatch
from statewise.service.transport.queue._wake_up import QueueUnavailable, WakeUp

_log = logging.getLogger(__name__)

_MOST_EVENTS = 1024
"""Events that are handled before the loop goes on, so that no flood keeps timers and tasks waiting."""
_LONGEST_WAIT_S = 0.2
"""gRPC waits until a time of day, in pieces of this length, after each of which it looks at the clock again.
A clock that is set back by an hour would make a wait of two pieces an hour longer."""
_CLOSE_S = 5.0


class QueueEventLoop(asyncio.SelectorEventLoop):
    """asyncio's loop over a completion queue.

    Raises:
        QueueUnavailable: this platform or this grpcio has no such queue.
    """

    _closed = True
    """Until asyncio has begun it: a loop that cannot be made has nothing to close."""

    def __init__(self) -> None:
        if missing := _core.missing():
            raise QueueUnavailable(f"grpcio has no {', '.join(missing)}")
        if not hasattr(asyncio.SelectorEventLoop, "_write_to_self"):
            raise QueueUnavailable("asyncio wakes its loop in another way")
        self._selector_of_queue = QueueSelector()
        super().__init__(self._selector_of_queue)

    @property
    def queue(self) -> CompletionQueue:
        """Gives the events; a tag is a function that gets its event."""
        return self._selector_of_queue.queue

    def _write_to_self(self) -> None:
        """Wakes the loop from another thread."""
        self._selector_of_queue.wake()


class QueueSelector(selectors.BaseSelector):
    """Polls a completion queue, and has files watched in a thread."""

    def __init__(self) -> None:
        self.queue = _core.make_queue()
        self.wake = WakeUp(self.queue)
        self._files = FileWatch(self.wake)
        self._process = os.getpid()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Handles the events that have happened, or waits for the first. Returns the files that are ready."""
        if os.getpid() != self._process:
            raise RuntimeError("a process that serves was forked: gRPC's queue stays with the parent process")
        self._files.go_on()
        poll = self.queue.poll
        wait_s = _LONGEST_WAIT_S if timeout is None else min(timeout, _LONGEST_WAIT_S)
        deadline = time.time() + wait_s if wait_s > 0 else 0.0
        for _ in range(_MOST_EVENTS):
            # Decoding an event may fail, and a failing tag must not end the loop.
            try:
                event = poll(deadline)
                if event.completion_type == _core.TIMEOUT:
                    break
                event.tag(event)
            except Exception as error:
                _log.error("an event of gRPC failed", exc_info=error)
            # An event that refers to a call which is over would keep the queue busy.
            event = None  # type: ignore[assignment]
            deadline = 0.0
        return self._files.take()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._files.selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._files.selector.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._files.selector.modify(fileobj, events, data)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._files.selector.get_key(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._files.selector.get_map() or {}

    def close(self) -> None:
        """Ends thread and queue. A queue that still has operations would block: it is left to the process."""
        if os.getpid() != self._process:
            _left_open.append(self.queue)
            return
        self._files.close()
        self.wake.close()
        self.queue.shutdown()
        end = time.time() + _CLOSE_S
        while (event := self.queue.poll(end)).completion_type != _core.SHUTDOWN:
            if event.completion_type == _core.TIMEOUT:
                _log.error("gRPC's queue does not end: operations are outstanding")
                _left_open.append(self.queue)
                return


_left_open: list[CompletionQueue] = []
