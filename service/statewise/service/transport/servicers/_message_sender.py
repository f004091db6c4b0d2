"""Sends the messages of one RPC in order, each at once where gRPC can take it, without waking a task.

gRPC's `write` is a coroutine that begins the operation, then awaits the future of its end. `post` drives the
coroutine by hand up to that future, and the next `post` drives it to its end. gRPC takes one message at a
time; further messages wait here. The caller bounds how many wait, by `waiting`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any


class MessageSender:
    """Messages that wait or are being sent.

    Args:
        write: Sends a message; awaits nothing but futures of the running loop.
        sent: Called when the sending of a message that had to wait has begun.
        failed: Called once, when a message cannot be sent; no later message is sent.
    """

    def __init__(
        self,
        write: Callable[[Any], Coroutine[Any, Any, None]],
        *,
        sent: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._write = write
        self._sent = sent
        self._failed = failed
        self._outbox: deque[Any] = deque()
        self._writing: Coroutine[Any, Any, None] | None = None
        self._wait: asyncio.Future[Any]
        self._broken = False
        self.begun = 0
        """Messages whose sending has begun."""

    @property
    def busy(self) -> bool:
        """Whether the sending of a message has begun and gRPC has not taken the message yet."""
        return self._writing is not None and not self._wait.done()

    @property
    def waiting(self) -> int:
        """Messages whose sending has not begun."""
        return len(self._outbox)

    def post(self, message: Any) -> None:
        """Sends a message, or keeps it until the earlier ones are sent. Does nothing after a failure."""
        if self._writing is not None and not self._outbox and self._wait.done():
            self._advance()
        if self._writing is None:
            self._begin(message)
            return
        self._outbox.append(message)
        if len(self._outbox) == 1:
            self._wait.add_done_callback(self._go_on)

    async def flush(self) -> None:
        """Returns when all posted messages are sent, or cannot be sent."""
        while self._writing is not None:
            await asyncio.wait((self._wait,))
            self._go_on(self._wait)

    def abandon(self) -> None:
        """Drops the messages that wait. A message being sent ends by itself, with the RPC at the latest."""
        self._broken = True
        self._outbox.clear()
        if self._writing is not None:
            self._wait.add_done_callback(self._go_on)

    def _begin(self, message: Any) -> None:
        if not self._broken:
            self.begun += 1
            self._writing = self._write(message)
            self._advance()

    def _advance(self) -> None:
        """Drives the write to its next future or to its end."""
        assert self._writing is not None
        try:
            self._wait = self._writing.send(None)
        except StopIteration:
            self._writing = None
        except Exception as error:
            self._writing = None
            self._broken = True
            self._outbox.clear()
            self._failed(error)

    def _go_on(self, wait: asyncio.Future[Any]) -> None:
        if self._writing is not None and wait is self._wait and wait.done():
            self._advance()
        while self._writing is None and self._outbox:
            self._begin(self._outbox.popleft())
            self._sent()
        if self._writing is not None and self._outbox:
            self._wait.add_done_callback(self._go_on)
