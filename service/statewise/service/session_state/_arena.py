"""Memory for the state of many sessions, reserved once and touched only where it is used.

Not a cache and not a store: a fixed address range. Growing never copies, because the whole range is reserved
when the arena is made; pages that no session has used cost no memory.
"""

import math
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from statewise.wire import DTYPES, StatePair


def reserve(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros whose pages are backed by memory from the moment they are written.

    Raises:
        MemoryError: no address range is that long.
    """
    dtype = np.dtype(dtype)
    size = max(1, math.prod(shape) * dtype.itemsize)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    try:
        pages = mmap.mmap(-1, size, flags=flags)
    except (OSError, OverflowError):
        raise MemoryError(f"{size} bytes of addresses cannot be reserved") from None
    return np.frombuffer(pages, dtype, count=math.prod(shape)).reshape(shape)


class StateArena:
    """Two copies of the state of each session of one model version: the current and the previous.

    Row r has its copies at 2r and 2r + 1; which of them is current is the session's parity, kept in the
    session table. Advancing a session writes over the older copy and flips the parity, so that the state from
    before the last request stays readable (retry, rewind) without ever being copied.
    """

    def __init__(self, pairs: Sequence[StatePair], capacity: int) -> None:
        self._pairs = tuple(pairs)
        self._copies = [reserve((2 * capacity, *pair.shape), DTYPES[pair.dtype]) for pair in self._pairs]
        self._initial = [pair.initial_state() for pair in self._pairs]
        self._capacity = capacity
        self._touched = 0
        self._free: list[int] = []
        self.bytes_per_session = 2 * sum(
            math.prod(pair.shape) * DTYPES[pair.dtype].itemsize for pair in self._pairs
        )

    @property
    def pairs(self) -> tuple[StatePair, ...]:
        """What is kept of a session."""
        return self._pairs

    @property
    def used_rows(self) -> int:
        """Rows given out."""
        return self._touched - len(self._free)

    def take_row(self) -> int:
        """A row whose current state (at parity 0) is the model's initial state. O(bytes of one state)."""
        if self._free:
            row = self._free.pop()
        elif self._touched < self._capacity:
            row, self._touched = self._touched, self._touched + 1
        else:
            raise MemoryError("the arena has no free row")
        for initial, copies in zip(self._initial, self._copies, strict=True):
            copies[2 * row] = initial
        return row

    def give_back(self, row: int) -> None:
        """Frees a row; the next session that gets it starts from the initial state."""
        self._free.append(row)

    def initial(self, rows: int) -> list[NDArray[Any]]:
        """Initial states for rows that keep none, one [rows, *shape] a state pair."""
        return [np.repeat(initial[None], rows, axis=0) for initial in self._initial]

    def read(self, index: int) -> list[NDArray[Any]]:
        """A copy of the state at `index` (2 * row + parity), one [*shape] a state pair."""
        return [copies[index].copy() for copies in self._copies]

    def write(self, index: int, state: Sequence[NDArray[Any]]) -> None:
        """Writes one state to `index`."""
        for copies, values in zip(self._copies, state, strict=True):
            copies[index] = values

    def view_at(self, index: int) -> list[NDArray[Any]]:
        """The state at `index`, not a copy, one [1, *shape] a state pair."""
        return [copies[index : index + 1] for copies in self._copies]

    def gather(self, indices: NDArray[np.intp]) -> list[NDArray[Any]]:
        """States at `indices` (2 * row + parity), one [len(indices), *shape] a state pair."""
        return [copies.take(indices, axis=0) for copies in self._copies]

    def scatter(self, indices: NDArray[np.intp], state: Sequence[NDArray[Any]]) -> None:
        """Writes states to `indices` (2 * row + parity), no two alike."""
        for copies, values in zip(self._copies, state, strict=True):
            copies[indices] = values
