"""Scratch memory that a training loop hands from step to step.

It is no cache of results: what it gives is uninitialised. Arrays from one name are valid until that
name is asked for again, so a tape made with a workspace lives until the next forward pass with it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


class Workspace:
    """Named buffers that grow to the largest size asked for and are then reused.

    Without reuse every pass returns megabytes to the system and faults them in again, which costs
    more than the arithmetic of a small cell.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, str], npt.NDArray[Any]] = {}
        self._scopes: dict[str, Workspace] = {}

    def scope(self, name: str) -> Workspace:
        """A workspace of its own for one part of the network."""
        return self._scopes.setdefault(name, Workspace())

    def empty(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A contiguous array with arbitrary contents."""
        key = (name, np.dtype(dtype).str)
        size = math.prod(shape)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[key] = np.empty(size, dtype)
        return buffer[:size].reshape(shape)

    def zeros(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A contiguous array of zeros."""
        array = self.empty(name, shape, dtype)
        array.fill(0)
        return array
