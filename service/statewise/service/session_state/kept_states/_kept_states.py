"""Makes new states of sessions current, and takes sessions back to the states from before.

The arena keeps the state from before the last request. A session that keeps more requests has a ring of older
ones beside it: a state that a new one is about to overwrite in the arena moves into the ring. Sessions that
keep one request have none, and cost nothing here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Cells, Slots
from statewise.service.session_state import NO_POSITION, SessionTable, StateArena, reserve
from statewise.service.session_state.kept_states._named_checkpoints import NamedCheckpoints
from statewise.service.session_state.kept_states._state_rings import StateRings


class KeptStates:
    """Current and earlier states of the sessions of one model version.

    Args:
        arena: Holds the current states, and those from before the last requests.
        table: Holds the sessions.
    """

    def __init__(self, arena: StateArena, table: SessionTable) -> None:
        self._arena = arena
        self._table = table
        self.checkpoints = NamedCheckpoints(table)
        """States that sessions keep under names."""
        self._rings: dict[int, StateRings] = {}
        """By the number of requests that sessions keep, from 2."""
        # By row of the arena: how many requests its session keeps, 0 for one, and the session's ring.
        self._keep: NDArray[np.uint8] | None = None
        self._ring_row = reserve((0,), np.intp)

    # --- sizes ---

    @property
    def used_bytes(self) -> int:
        """Bytes of all sessions: copies in the arena, rings and named checkpoints."""
        rings = sum(one.used_rows * one.bytes_per_session for one in list(self._rings.values()))
        copies = self._arena.used_rows * self._arena.bytes_per_session
        return copies + rings + self.checkpoints.used_bytes

    def session_bytes(self, keep: int) -> int:
        """Returns the bytes of a session that keeps so many requests: both copies of its state, and ring."""
        copies = self._arena.bytes_per_session
        return copies + (keep - 1) * (8 + copies // 2)

    def keep_of_bytes(self, session_bytes: int) -> int | None:
        """Returns how many requests a session of a size keeps; None: no session has that size."""
        copies = self._arena.bytes_per_session
        more, left = divmod(session_bytes - copies, 8 + copies // 2)
        return more + 1 if 0 <= more < 2**8 and not left else None

    # --- sessions ---

    def take_row(self, keep: int, state: Sequence[NDArray[Any]] | None = None) -> int:
        """Takes a row of the arena for a session that keeps so many requests.

        Args:
            keep: How many.
            state: As for `StateArena.take_row`.

        Raises:
            MemoryError: no row is free, or no address range of the length of the rings.
            ValueError: the state does not fit; no row was taken.
        """
        if keep > 1 and keep not in self._rings:
            self._rings[keep] = StateRings(self._arena, keep - 1)
        row = self._arena.take_row(state)
        if keep > 1:
            self._begin(row, keep)
        return row

    def _begin(self, row: int, keep: int) -> None:
        if self._keep is None:
            self._ring_row = reserve((self._arena.capacity,), np.intp)
            self._keep = reserve((self._arena.capacity,), np.uint8)
        self._keep[row] = keep
        self._ring_row[row] = self._rings[keep].take_row()

    def give_back(self, row: int) -> None:
        """Frees a row of the arena, and what its session had beside the arena."""
        self._arena.give_back(row)
        self.checkpoints.free(row)
        keep = 0 if self._keep is None else int(self._keep[row])
        if not keep:
            return
        assert self._keep is not None
        self._rings[keep].give_back(int(self._ring_row[row]))
        self._keep[row] = 0
        if not any(rings.used_rows for rings in self._rings.values()):
            self._rings, self._keep = {}, None

    def bytes_of(self, slot: int) -> int:
        """Returns the bytes of a session, with those of its named checkpoints."""
        return self.session_bytes(self.keep_of(slot)) + self.checkpoints.bytes_of(slot)

    def keep_of(self, slot: int) -> int:
        """Returns how many requests a session keeps."""
        return 1 if self._keep is None else int(self._keep[self._row(slot)]) or 1

    def keeps_of(self, slots: Slots) -> NDArray[np.uint8]:
        """Returns how many requests sessions keep."""
        if self._keep is None:
            return np.ones(len(slots), np.uint8)
        kept: NDArray[np.uint8] = self._keep[self._table.current_index[slots] >> 1]
        return np.maximum(kept, 1)

    def positions_of(self, slot: int) -> list[int]:
        """Returns the positions that a session can be taken back to, the earliest first."""
        previous = int(self._table.previous_position[slot])
        last = [] if previous == NO_POSITION else [previous]
        ring = self._ring_of(slot)
        return last if ring is None else ring[0].positions_of(ring[1]) + last

    # --- new states ---

    def commit(
        self,
        slots: Slots,
        cells: Cells,
        state: Sequence[NDArray[Any]],
        steps: NDArray[np.unsignedinteger] | int,
        digests: NDArray[np.uint64],
    ) -> None:
        """Makes the states that requests gave the current ones, and those from before them the earlier ones.

        Args:
            slots: The sessions, each once.
            cells: Their cells as read; overwritten.
            state: [len(slots), *shape] for each state pair.
            steps: Time steps of each session.
            digests: Digests of the requests.
        """
        older = self._table.next_arena_indices(cells)
        if self._keep is not None:
            self._push(older, self._table.previous_positions(cells))
        self._arena.scatter(older, state)
        self._table.advance(slots, cells, steps, digests)

    def commit_one(self, slot: int, state: Sequence[NDArray[Any]], digest: int) -> None:
        """Works like `commit`, for one session and one step."""
        older = self._table.arena_index(slot) ^ 1
        if self._keep is not None:
            keep = int(self._keep[older >> 1])
            previous = int(self._table.previous_position[slot])
            if keep and previous != NO_POSITION:
                self._rings[keep].push_one(int(self._ring_row[older >> 1]), previous, older)
        self._arena.write(older, state)
        self._table.advance_one(slot, digest)

    def _push(self, older: NDArray[np.intp], positions: NDArray[np.uint64]) -> None:
        """Moves the older copies of sessions that keep more than one request into their rings."""
        assert self._keep is not None
        keeps = self._keep[older >> 1]
        keeps[positions == NO_POSITION] = 0
        for keep, rings in self._rings.items():
            own = keeps == keep
            if own.all():
                rings.push(self._ring_row[older >> 1], positions, older)
                return
            if own.any():
                rings.push(self._ring_row[older[own] >> 1], positions[own], older[own])

    # --- earlier states ---

    def rewind(self, slot: int, position: int) -> bool:
        """Takes a session back to the state from before one of its last requests, and raises its epoch.

        What was kept from before that state can still be gone to.

        Returns:
            Whether the session is at that position now; at its current position nothing changes.
        """
        if position == int(self._table.position[slot]):
            return True
        if position == NO_POSITION:
            return False
        if position != int(self._table.previous_position[slot]):
            ring = self._ring_of(slot)
            state = None if ring is None else ring[0].pop(ring[1], position)
            if state is None:
                return False
            self._arena.write(self._table.arena_index(slot) ^ 1, state)
        self._table.turn_to(slot, position)
        return True

    def begin_anew(self, slot: int, state: Sequence[NDArray[Any]], *, position: int, digest: int = 0) -> None:
        """Gives a session another state, and raises its epoch; it can be taken back to nothing from before.

        Args:
            slot: The session.
            state: One [*shape] or [1, *shape] a state pair.
            position: Time steps that the state has consumed.
            digest: Digest of the request; 0: nothing has to recognise it.
        """
        self._arena.write(self._table.arena_index(slot) ^ 1, state)
        ring = self._ring_of(slot)
        if ring is not None:
            ring[0].clear(ring[1])
        self._table.turn_to(slot, position, digest)

    # --- for a store ---

    def read_sessions(self, slots: Slots, keep: int) -> NDArray[np.uint8]:
        """Returns both copies of the states of sessions and their rings, uint8 [len(slots), session_bytes].

        Args:
            slots: Sessions that keep equally many requests.
            keep: How many.
        """
        rows = self._table.current_index[slots] >> 1
        copies = self._arena.read_rows(rows)
        if keep == 1:
            return copies
        return np.concatenate([copies, self._rings[keep].read_rows(self._ring_row[rows])], axis=1)

    def write_session(self, slot: int, states: NDArray[np.uint8]) -> None:
        """Writes copies and ring of a session that keeps as many requests, as `read_sessions` gave them."""
        copies = self._arena.bytes_per_session
        self._arena.write_row(self._row(slot), states[:copies])
        ring = self._ring_of(slot)
        if ring is not None:
            ring[0].write_row(ring[1], states[copies:])

    def _row(self, slot: int) -> int:
        return self._table.arena_index(slot) >> 1

    def _ring_of(self, slot: int) -> tuple[StateRings, int] | None:
        keep = self.keep_of(slot)
        return None if keep == 1 else (self._rings[keep], int(self._ring_row[self._row(slot)]))
