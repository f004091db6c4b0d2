"""Sends the messages of one RPC, one after another, in the turn of the event loop in which they are posted.

Not a queue with a task behind it: gRPC's `write` is a coroutine that begins the operation and then waits for
the future that ends it. It is driven by hand to that point by whoever posts, and to its end when the next
message is posted, so that no task is woken for a reply. gRPC takes one message at a time; the others wait
here in order. How many may wait is the caller's to bound, by `waiting`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any


class MessageSender:
    """Messages on their way out.

    Args:
        write: Begins to send a message; waits for nothing but futures of the running loop.
        sent: Called when a message that had to wait has begun to be sent.
        failed: Called once, when a message could not be sent; nothing is sent after it.
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
        """Whether a message has begun to be sent and gRPC has not taken it yet."""
        return self._writing is not None and not self._wait.done()

    @property
    def waiting(self) -> int:
        """Messages that could not be begun yet."""
        return len(self._outbox)

    def post(self, message: Any) -> None:
        """Sends a message, or keeps it until those before it are sent. After a failure: does nothing."""
        if self._writing is not None and not self._outbox and self._wait.done():
            self._advance()
        if self._writing is None:
            self._begin(message)
            return
        self._outbox.append(message)
        if len(self._outbox) == 1:
            self._wait.add_done_callback(self._go_on)

    async def flush(self) -> None:
        """Returns when everything posted is sent, or cannot be."""
        while self._writing is not None:
            await asyncio.wait((self._wait,))
            self._go_on(self._wait)

    def abandon(self) -> None:
        """Drops what waits. The message under way ends by itself, with the RPC at the latest."""
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
        """Drives the write to its next wait or to its end."""
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
