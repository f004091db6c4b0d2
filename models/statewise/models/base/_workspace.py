"""Reuses scratch memory from one training step to the next.

Arrays come uninitialised. An array is valid until its name is requested again, so a tape is valid until
the next forward pass with the same workspace.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


class Workspace:
    """Named buffers, each as large as the largest array requested so far.

    Without reuse, every pass returns megabytes to the operating system and faults them in again, which
    costs more than the arithmetic of a small cell.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, str], npt.NDArray[Any]] = {}
        self._scopes: dict[str, Workspace] = {}

    def scope(self, name: str) -> Workspace:
        """Returns the workspace of one part of the network; names in different scopes do not collide."""
        return self._scopes.setdefault(name, Workspace())

    def empty(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Returns a contiguous array with arbitrary contents."""
        key = (name, np.dtype(dtype).str)
        size = math.prod(shape)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[key] = np.empty(size, dtype)
        return buffer[:size].reshape(shape)

    def zeros(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Returns a contiguous array of zeros."""
        array = self.empty(name, shape, dtype)
        array.fill(0)
        return array
