"""Sends the messages of one call in order, each at once where the transport can take it, without a task.

A transport takes one message at a time; further messages wait here. The caller bounds how many wait, by
`waiting`.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from statewise.service.transport.calls import Call


class MessageSender:
    """Messages that wait or are being sent.

    Args:
        call: Sends them. If it cannot send one, the client has left, and no later message is sent.
        sent: Called when the sending of a message that had to wait has begun.
    """

    def __init__(self, call: Call, *, sent: Callable[[], None]) -> None:
        self._call = call
        self._sent = sent
        self._outbox: deque[bytes] = deque()
        self._flushed: asyncio.Event | None = None
        self._is_abandoned = False
        self.busy = False
        """Whether the sending of a message has begun and the transport has not taken the message yet."""
        self.waiting_bytes = 0
        """Bytes of the messages whose sending has not begun."""
        self.begun = 0
        """Messages whose sending has begun."""

    @property
    def waiting(self) -> int:
        """Messages whose sending has not begun."""
        return len(self._outbox)

    def post(self, message: bytes) -> None:
        """Sends a message, or keeps it until the earlier ones are sent. Does nothing once abandoned."""
        if self._is_abandoned:
            return
        if self.busy:
            self._outbox.append(message)
            self.waiting_bytes += len(message)
        else:
            self._begin(message)

    async def flush(self) -> None:
        """Returns when all posted messages are sent; the call's task is cancelled if they cannot be."""
        while self.busy:
            self._flushed = self._flushed or asyncio.Event()
            await self._flushed.wait()

    def abandon(self) -> None:
        """Drops the messages that wait. A message being sent ends by itself, with the call at the latest."""
        self._is_abandoned = True
        self._outbox.clear()
        self.waiting_bytes = 0

    def _begin(self, message: bytes) -> None:
        self.begun += 1
        self.busy = True
        self._call.send(message, self._taken)

    def _taken(self) -> None:
        self.busy = False
        if self._outbox:
            message = self._outbox.popleft()
            self.waiting_bytes -= len(message)
            self._begin(message)
            self._sent()
        elif self._flushed is not None:
            self._flushed.set()
            self._flushed = None
