"""Reads small text files of a repository, which anybody who publishes there may have written."""

import os
import stat
from pathlib import Path

_MOST_BYTES = 4 * 2**20


def read_text(path: Path) -> str:
    """Reads a file of UTF-8.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        ValueError: it is no ordinary file, too long, or not UTF-8.
    """
    # A pipe would wait for its writer: without O_NONBLOCK for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("expected an ordinary file")
        if status.st_size > _MOST_BYTES:
            raise ValueError(f"expected at most {_MOST_BYTES} bytes; got {status.st_size}")
        return file.read(_MOST_BYTES).decode()
