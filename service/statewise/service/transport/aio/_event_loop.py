"""Wakes the event loop once for all operations that gRPC has finished, not once for each.

For each finished operation, gRPC's thread writes one byte to a socket; the loop's callback handles all
finished operations but reads one byte. The bytes left would wake the loop for nothing, twice for every
message of a busy server. This loop reads all bytes before the callback: an operation that finishes later
writes another byte, so none is missed.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVarTuple, Unpack

_BYTES = 4096
_Ts = TypeVarTuple("_Ts")


class AioEventLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, except that it empties the socket by which gRPC wakes it."""

    def add_reader(self, fd: Any, callback: Callable[[Unpack[_Ts]], Any], *args: *_Ts) -> None:
        """As asyncio's; a socket object is emptied before each call. Only gRPC passes a socket object."""
        if not isinstance(fd, socket.socket):
            super().add_reader(fd, callback, *args)
            return

        def emptied() -> None:
            with suppress(BlockingIOError):
                fd.recv(_BYTES)
            callback(*args)

        super().add_reader(fd, emptied)
