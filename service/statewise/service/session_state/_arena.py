"""Holds the states of many sessions in address ranges that are reserved once and never grow.

Pages that no session has used cost no memory, and states are never moved.
"""

import math
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from statewise.wire import DTYPES, StatePair


def reserve(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Reserves an array of zeros whose pages take memory only once they are written.

    Raises:
        MemoryError: no address range of that length is free.
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

    Row r has its copies at the indices 2r and 2r + 1; the session table holds the index of the current copy.
    A step overwrites the older copy and flips the lowest bit of that index, so the state before the last
    request stays readable (retry, rewind) and is never copied.

    Args:
        pairs: The model's states.
        capacity: Sessions at most.
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
        """The states of a session."""
        return self._pairs

    @property
    def capacity(self) -> int:
        """Sessions at most."""
        return self._capacity

    @property
    def initial_state(self) -> Sequence[NDArray[Any]]:
        """The model's own initial state, one [*shape] a state pair; not to be changed."""
        return self._initial

    @property
    def used_rows(self) -> int:
        """Rows in use."""
        return self._touched - len(self._free)

    def take_row(self, state: Sequence[NDArray[Any]] | None = None) -> int:
        """Takes a free row and writes a state to its index 2 * row.

        Args:
            state: One [*shape] a state pair; None: the model's initial state.

        Raises:
            MemoryError: no row is free.
            ValueError: the state does not fit; no row was taken.
        """
        values = self._initial if state is None else self._fitting(state)
        if self._free:
            row = self._free.pop()
        elif self._touched < self._capacity:
            row, self._touched = self._touched, self._touched + 1
        else:
            raise MemoryError("the arena has no free row")
        for array, copies in zip(values, self._copies, strict=True):
            copies[2 * row] = array
        return row

    def give_back(self, row: int) -> None:
        """Frees a row."""
        self._free.append(row)

    def _fitting(self, state: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """Returns the state. Raises ValueError where it is not a state of this arena."""
        expected = [(pair.shape, DTYPES[pair.dtype]) for pair in self._pairs]
        got = [(array.shape, array.dtype) for array in state]
        if expected != got:
            raise ValueError(f"expected a state of {expected}; got {got}")
        return state

    def initial(self, rows: int) -> list[NDArray[Any]]:
        """Returns the initial states of rows without a session, one [rows, *shape] a state pair."""
        return [np.repeat(initial[None], rows, axis=0) for initial in self._initial]

    def read(self, index: int) -> list[NDArray[Any]]:
        """Returns a copy of the state at an index, one [*shape] a state pair."""
        return [copies[index].copy() for copies in self._copies]

    def write(self, index: int, state: Sequence[NDArray[Any]]) -> None:
        """Writes one state to an index, one [*shape] or [1, *shape] a state pair."""
        for copies, values in zip(self._copies, state, strict=True):
            copies[index : index + 1] = values

    def view_at(self, index: int) -> list[NDArray[Any]]:
        """Returns the state at an index, not a copy, one [1, *shape] a state pair."""
        return [copies[index : index + 1] for copies in self._copies]

    def gather(self, indices: NDArray[np.intp]) -> list[NDArray[Any]]:
        """Returns copies of the states at indices, one [len(indices), *shape] a state pair."""
        return [copies.take(indices, axis=0) for copies in self._copies]

    def nonfinite(self, indices: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Returns which of the states at indices hold a NaN or an infinite number, [len(indices)].

        Elements that are not finite in the model's own initial state do not count.
        """
        found = np.zeros(len(indices), np.bool_)
        for states, initial in zip(self.gather(indices), self._initial, strict=True):
            if states.dtype.kind == "f" and not np.isfinite(states).all():
                wrong = ~np.isfinite(states) & np.isfinite(initial)
                found |= wrong.any(axis=tuple(range(1, states.ndim)))
        return found

    def read_rows(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Returns both copies of every state of rows, uint8 [len(rows), bytes_per_session]."""
        found = np.empty((len(rows), self.bytes_per_session), np.uint8)
        begin = 0
        for copies in self._copies:
            both = copies.reshape(self._capacity, -1).view(np.uint8)
            end = begin + both.shape[1]
            np.take(both, rows, axis=0, out=found[:, begin:end], mode="clip")
            begin = end
        return found

    def write_row(self, row: int, states: NDArray[np.uint8]) -> None:
        """Writes both copies of every state of a row, as `read_rows` gave them."""
        begin = 0
        for copies in self._copies:
            both = copies.reshape(self._capacity, -1).view(np.uint8)
            end = begin + both.shape[1]
            both[row] = states[begin:end]
            begin = end

    def current_of(self, states: NDArray[np.uint8], parity: int) -> list[NDArray[Any]]:
        """Returns the current one of two copies of a state, one [*shape] a state pair.

        Args:
            states: Both copies, as `read_rows` gave them; what follows them is left out.
            parity: Which of them is the current one, 0 or 1.
        """
        found, begin = [], 0
        for pair in self._pairs:
            size = math.prod(pair.shape) * DTYPES[pair.dtype].itemsize
            own = states[begin + parity * size : begin + (parity + 1) * size]
            found.append(np.frombuffer(own.tobytes(), DTYPES[pair.dtype]).reshape(pair.shape))
            begin += 2 * size
        return found

    def scatter(self, indices: NDArray[np.intp], state: Sequence[NDArray[Any]]) -> None:
        """Writes states to indices, no two of them equal."""
        for copies, values in zip(self._copies, state, strict=True):
            copies[indices] = values
