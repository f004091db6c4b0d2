"""The event loop of a process that is a server: woken once by what gRPC has ready, not once for every event.

gRPC's thread tells the loop of each finished operation by one byte in a socket; the loop's callback takes all
that has finished, and one byte. The bytes left over would wake it again for nothing, twice for every message
of a busy server. Here they are taken together, before what has finished is looked at, so that an operation
whose byte comes later wakes the loop again and none is missed.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVarTuple, Unpack

_BYTES = 4096
_Ts = TypeVarTuple("_Ts")


class ServerEventLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, but for sockets of which only the fact that something came is read."""

    def add_reader(self, fd: Any, callback: Callable[[Unpack[_Ts]], Any], *args: *_Ts) -> None:
        """As asyncio's. A socket object is emptied before each call; only gRPC gives one to the loop."""
        if not isinstance(fd, socket.socket):
            super().add_reader(fd, callback, *args)
            return

        def emptied() -> None:
            with suppress(BlockingIOError):
                fd.recv(_BYTES)
            callback(*args)

        super().add_reader(fd, emptied)
