"""Encodes commands for a Redis server, where some arguments may be encoded already.

redis-py encodes each argument by itself. The rows of a checkpoint are thousands of arguments of one length,
which NumPy encodes together, with one copy of their bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EncodedArguments:
    """Arguments in the form in which the protocol sends them.

    Attributes:
        count: How many.
        data: Their bytes, one after another: of each `$`, the length, a line end, the bytes, a line end.
    """

    count: int
    data: memoryview


def encode_rows(*parts: NDArray[np.uint8]) -> EncodedArguments:
    """Encodes one argument a row: uint8 [n, bytes] of each part, one part after the other."""
    rows = len(parts[0])
    width = sum(part.shape[1] for part in parts)
    head = np.frombuffer(b"$%d\r\n" % width, np.uint8)
    encoded = np.empty((rows, len(head) + width + 2), np.uint8)
    encoded[:, : len(head)] = head
    encoded[:, -2:] = np.frombuffer(b"\r\n", np.uint8)
    begin = len(head)
    for part in parts:
        encoded[:, begin : begin + part.shape[1]] = part
        begin += part.shape[1]
    return EncodedArguments(rows, encoded.reshape(-1).data)


Argument = bytes | str | int | EncodedArguments


class CommandPacker:
    """Encodes commands in place of redis-py's own packer."""

    def pack(self, *arguments: Argument) -> Sequence[bytes | memoryview]:
        """Returns a command as buffers to send one after another.

        Args:
            arguments: Name and arguments of the command. A name of several words is as many arguments.

        Raises:
            TypeError: An argument is of another type.
        """
        name, *rest = arguments
        words = [name] if isinstance(name, EncodedArguments) else _bytes_of(name).split()
        buffers: list[bytes | memoryview] = []
        plain: list[bytes] = []
        count = 0
        for argument in (*words, *rest):
            if isinstance(argument, EncodedArguments):
                count += argument.count
                buffers += [b"".join(plain), argument.data]
                plain = []
            else:
                count += 1
                encoded = _bytes_of(argument)
                plain += [b"$%d\r\n" % len(encoded), encoded, b"\r\n"]
        return [b"*%d\r\n" % count, *buffers, b"".join(plain)]


def _bytes_of(argument: bytes | str | int) -> bytes:
    if isinstance(argument, bytes):
        return argument
    return argument.encode() if isinstance(argument, str) else b"%d" % argument
