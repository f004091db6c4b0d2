"""Holds rings of earlier states: the last few of each session, in address ranges that are reserved once.

A ring's entries are of one session, and their positions rise from the oldest to the newest.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.service.session_state import NO_POSITION, StateArena, reserve


class StateRings:
    """Rings of equal length, one a session, of sessions of one model version.

    Args:
        arena: Where the states come from.
        entries: States in a ring at most.
    """

    def __init__(self, arena: StateArena, entries: int) -> None:
        self._arena = arena
        self._entries = entries
        self._positions = reserve((arena.capacity, entries), np.uint64)
        self._states = [
            reserve((arena.capacity, entries, *pair.shape), initial.dtype)
            for pair, initial in zip(arena.pairs, arena.initial(1), strict=True)
        ]
        self._next = reserve((arena.capacity,), np.uint8)  # the entry that the next state goes to
        # One row an entry: a batch is written with one index a state, a single step with scalars.
        sizes = [math.prod(pair.shape) for pair in arena.pairs]
        self._flat_states = [
            kept.reshape(arena.capacity * entries, size)
            for kept, size in zip(self._states, sizes, strict=True)
        ]
        self._flat_positions = self._positions.reshape(-1)
        self._scalar_positions, self._scalar_next = self._flat_positions.data, self._next.data
        self._touched = 0
        self._free: list[int] = []
        self.bytes_per_session = entries * (8 + arena.bytes_per_session // 2)
        """Of a ring: positions and states."""

    @property
    def used_rows(self) -> int:
        """Rings in use."""
        return self._touched - len(self._free)

    def take_row(self) -> int:
        """Takes an empty ring. There are as many as the arena has rows."""
        if self._free:
            row = self._free.pop()
        else:
            row, self._touched = self._touched, self._touched + 1
        self.clear(row)
        return row

    def give_back(self, row: int) -> None:
        """Frees a ring."""
        self._free.append(row)

    def clear(self, row: int) -> None:
        """Empties a ring."""
        self._positions[row] = NO_POSITION
        self._next[row] = 0

    def push(self, rows: NDArray[np.intp], positions: NDArray[np.uint64], indices: NDArray[np.intp]) -> None:
        """Adds a state to each ring, where a full ring loses its oldest one.

        Args:
            rows: The rings, each once.
            positions: Positions of the states.
            indices: Where the states stand in the arena.
        """
        entries = self._next[rows]
        flat = rows * self._entries + entries
        self._flat_positions[flat] = positions
        for kept, states in zip(self._flat_states, self._arena.gather(indices), strict=True):
            kept[flat] = states.reshape(len(rows), kept.shape[1])
        entries += 1
        entries[entries == self._entries] = 0
        self._next[rows] = entries

    def push_one(self, row: int, position: int, index: int) -> None:
        """Works like `push`, for one ring."""
        entry = self._scalar_next[row]
        flat = row * self._entries + entry
        self._scalar_positions[flat] = position
        for kept, state in zip(self._flat_states, self._arena.view_at(index), strict=True):
            kept[flat] = state.reshape(-1)
        self._scalar_next[row] = entry + 1 if entry + 1 < self._entries else 0

    def positions_of(self, row: int) -> list[int]:
        """Returns the positions of a ring's states, the oldest first."""
        positions = self._positions[row]
        found: list[int] = np.sort(positions[positions != NO_POSITION]).tolist()
        return found

    def pop(self, row: int, position: int) -> list[NDArray[Any]] | None:
        """Takes the state of a position out of a ring, and drops those that are newer.

        Returns:
            One [*shape] a state pair; None: there is none of that position, and nothing changes.
        """
        positions = self._positions[row]
        (found,) = np.nonzero((positions == position) & (positions != NO_POSITION))
        if not len(found):
            return None
        entry = int(found[0])
        state = [kept[row, entry].copy() for kept in self._states]
        positions[positions >= position] = NO_POSITION
        self._next[row] = entry
        return state

    def read_rows(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Returns positions and states of rings, uint8 [len(rows), bytes_per_session]."""
        columns = [self._positions[rows], *(kept[rows] for kept in self._states)]
        return np.concatenate([column.reshape(len(rows), -1).view(np.uint8) for column in columns], axis=1)

    def write_row(self, row: int, ring: NDArray[np.uint8]) -> None:
        """Writes positions and states of a ring, as `read_rows` gave them."""
        begin = 0
        for column in (self._positions, *self._states):
            size = math.prod(column.shape[1:]) * column.itemsize
            column[row] = np.frombuffer(ring[begin : begin + size].tobytes(), column.dtype).reshape(
                column.shape[1:]
            )
            begin += size
        positions = self._positions[row]
        filled = positions != NO_POSITION
        newest = int(np.argmax(np.where(filled, positions + np.uint64(1), np.uint64(0))))
        self._next[row] = (newest + 1) % self._entries if filled.any() else 0
