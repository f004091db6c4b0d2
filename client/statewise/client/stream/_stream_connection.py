"""Describes one connection of the session stream, and what a shell does for the multiplexer."""

from collections.abc import Callable
from typing import Any, Protocol

from statewise.client.stream._protocols import InFlightRequest


class StreamConnection:
    """One connection of the session stream.

    Args:
        number: counts connections, from 1.
        take: gives the next message of a connection.
    """

    __slots__ = ("_take", "ended", "in_flight", "number", "retired", "step_batches")

    def __init__(self, number: int, take: Callable[["StreamConnection"], bytes | None]) -> None:
        self._take = take
        self.number = number
        self.in_flight: dict[int, InFlightRequest] = {}
        """Requests without their last reply, by request id."""
        self.step_batches = 0
        """How many of these are step batches."""
        self.retired = False
        """No more requests are sent; those in flight still get their replies."""
        self.ended = False

    def take(self) -> bytes | None:
        """Returns the next message to write. None: wait to be woken, or end the writing if `retired`."""
        return self._take(self)


class Transport(Protocol):
    """What a shell does for the multiplexer. Every method returns at once."""

    def connect(self, stream: StreamConnection) -> None:
        """Opens a session stream, and reports on it to the multiplexer as this `stream`."""
        ...

    def wake(self, stream: StreamConnection) -> None:
        """Makes the writer call `stream.take()`, which has a message now, or end with the stream."""
        ...

    def after(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Calls back once, later."""
        ...

    def future(self) -> Any:
        """Returns a new future."""
        ...
