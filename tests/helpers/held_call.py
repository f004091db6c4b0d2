"""Defines a call whose client takes replies slowly."""

import asyncio
from collections.abc import Callable, Iterable

from statewise.service.transport.calls import Call


class HeldCall(Call):
    """A call that takes a message when the test says so, and whose client has sent endless requests.

    Args:
        requests: The messages of the client.
    """

    metadata = ()

    def __init__(self, requests: Iterable[bytes] = ()) -> None:
        self._requests = iter(requests)
        self.reads = 0
        self.begun: list[bytes] = []
        self._sent: Callable[[], None] | None = None

    def peer(self) -> str:
        return ""

    def certificate_names(self) -> list[str]:
        return []

    def remaining_s(self) -> None:
        return None

    def read(self, received: Callable[[bytes | None], None]) -> None:
        self.reads += 1
        asyncio.get_running_loop().call_soon(received, next(self._requests, None))

    def send(self, message: bytes, sent: Callable[[], None]) -> None:
        assert self._sent is None, "a transport takes one message at a time"
        self.begun.append(message)
        self._sent = sent

    def on_end(self, ended: Callable[[], None]) -> None:
        raise NotImplementedError

    def take(self) -> None:
        """Takes the message being sent."""
        assert self._sent is not None
        sent, self._sent = self._sent, None
        sent()
