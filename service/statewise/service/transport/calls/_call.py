"""Defines what a call is: what its behaviour may ask of the transport, in callbacks and in coroutines.

A transport implements `read` and `send`, which only begin an operation and call back when it is done. The
coroutines are for behaviour that is not hot. A call whose client has left calls nothing back: its task is
cancelled instead.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence


class CallError(Exception):
    """Ends a call with a status of gRPC that no reason of the contract stands for.

    Args:
        code: Number of the status, as in google.rpc.Code.
        message: For the caller.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class CallAbandoned(Exception):  # noqa: N818  # nothing failed: nobody takes what is sent
    """The caller takes nothing. The transport ends the call without a status."""


class Call(ABC):
    """One call of a client, from its first byte until its status is sent or the client has left."""

    is_read = False
    """Whether a message has been asked for."""

    @property
    @abstractmethod
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """What the client sent before its first message."""

    @abstractmethod
    def peer(self) -> str:
        """Returns the client's address, as gRPC writes it."""

    @abstractmethod
    def certificate_names(self) -> list[str]:
        """Returns the names in the client's verified certificate, the alternative ones first."""

    @abstractmethod
    def remaining_s(self) -> float | None:
        """Returns the seconds until the call's deadline; None: it has none."""

    @abstractmethod
    def read(self, received: Callable[[bytes | None], None]) -> None:
        """Begins to read one message; one at a time.

        Args:
            received: Gets the message, in the call's context; None: the client sends no more.
        """

    @abstractmethod
    def send(self, message: bytes, sent: Callable[[], None]) -> None:
        """Begins to send one message; one at a time.

        Args:
            message: One of several responses.
            sent: Called when the transport has taken the message.
        """

    @abstractmethod
    def on_end(self, ended: Callable[[], None]) -> None:
        """Has a function called once the call is over: its status is sent, or the client has left."""

    async def receive(self) -> bytes | None:
        """Reads one message; None: the client sends no more."""
        message: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.read(lambda raw: None if message.done() else message.set_result(raw))
        return await message

    async def write(self, message: bytes, *, stall_s: float | None = None) -> None:
        """Sends one of several responses.

        Args:
            message: The response.
            stall_s: Seconds within which the client must take the message; None: any time.

        Raises:
            CallAbandoned: the client took nothing in time.
        """
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.send(message, lambda: None if taken.done() else taken.set_result(None))
        try:
            async with asyncio.timeout(stall_s):
                await taken
        except TimeoutError:
            raise CallAbandoned from None
