"""Keeps what a step reads and writes of every session in one array, a row a slot.

A request of a thousand sessions is looked up, checked and advanced with a few array operations. The low 24
bits of a handle are the session's slot, the other bits are random: a handle is valid exactly when its slot
holds that very handle for that very owner. A free slot belongs to owner 0, which no caller is, so neither its
handle 0 nor any other opens it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import SLOT_BITS, Cells, Handles, Slots
from statewise.service.session_state._arena import reserve
from statewise.service.session_state._changed_sessions import ChangedSessions

SLOT_MASK = (1 << SLOT_BITS) - 1
NO_POSITION = 2**64 - 1
"""The previous position of a session whose last request cannot be repeated or taken back."""

# Indices of a session's cells, 8 bytes each. _PINNED holds two numbers of 4 bytes, model version and owner;
# _ARENA_INDEX is that of the current copy of the state, 2 * row + parity.
_HANDLE, _POSITION, _PINNED, _BUSY, _ARENA_INDEX, _PREVIOUS, _DIGEST, _LAST_USE = range(8)
_CELLS = 8


@dataclass(frozen=True, slots=True)
class RowVerdicts:
    """Which rows of a request may run, and from which copy of their state.

    Attributes:
        good: True where the row may run; None: all rows may.
        retry: True where the row repeats the session's last request; None: no row does.
    """

    good: NDArray[np.bool_] | None
    retry: NDArray[np.bool_] | None


class SessionColumns:
    """Sessions as columns over slots. Only this folder writes to the columns, except `busy`.

    Args:
        capacity: Sessions at most, up to 2**24.
        clock: Seconds, monotonic.
    """

    def __init__(self, capacity: int, *, clock: Callable[[], float]) -> None:
        self._capacity = capacity
        self._clock = clock
        # The cells of a session fill one cache line: a request's rows are read with one gather and written
        # with one scatter. The columns are views.
        self._cells = reserve((capacity, _CELLS), np.uint64)
        self._scalars = self._cells.reshape(-1).data
        self.handle = self._cells[:, _HANDLE]
        """0 marks a free slot."""
        self.position = self._cells[:, _POSITION]
        """Time steps consumed."""
        self.model = self._cells.view(np.uint32)[:, 2 * _PINNED]
        """Number of the model version."""
        self.owner = self._cells.view(np.uint32)[:, 2 * _PINNED + 1]
        """Number of the owner."""
        self.current_index = self._cells.view(np.int64)[:, _ARENA_INDEX]
        """Arena index of the current copy of the state."""
        self.previous_position = self._cells[:, _PREVIOUS]
        """Position before the last request."""
        self.digest = self._cells[:, _DIGEST]
        """Digest of the last request."""
        self.last_use_s = self._cells.view(np.float64)[:, _LAST_USE]
        """Time of the last request, on the clock."""
        self.changed: ChangedSessions | None = None
        """What a store has to learn; None: there is no store."""
        self.busy = self._cells[:, _BUSY]
        """Not 0 while a run that left the event loop holds the session's state."""

    # --- many sessions at once: the path of every step ---

    def slots_of(self, handles: Handles) -> Slots:
        """Returns the slots that handles point at, whether or not the handles are valid."""
        slots = (handles & np.uint64(SLOT_MASK)).view(np.intp)
        return np.minimum(slots, self._capacity - 1, out=slots)

    def has_repeats(self, slots: Slots) -> bool:
        """Returns whether a slot occurs twice."""
        ordered = np.sort(slots)
        return bool((ordered[1:] == ordered[:-1]).any())

    def valid_slots(self, handles: Handles, *, owner: int) -> Slots:
        """Returns the slots of that owner's sessions; void handles are left out."""
        slots = self.slots_of(handles)
        return slots[_are_valid(self.read(slots), handles, owner)]

    def are_valid(self, handles: Handles, slots: Slots, *, owner: int) -> NDArray[np.bool_]:
        """Returns which handles are those of that owner's sessions, bool [len(handles)]."""
        return _are_valid(self.read(slots), handles, owner)

    def models_of_handles(self, handles: Handles, slots: Slots, *, owner: int) -> NDArray[np.uint32]:
        """Numbers of the model versions of that owner's sessions; void handles are left out."""
        cells = self.read(slots)
        models = cells.view(np.uint32)[:, 2 * _PINNED]
        valid = _are_valid(cells, handles, owner)
        return models if valid.all() else models[valid]

    def read(self, slots: Slots) -> Cells:
        """Copies sessions' cells: up to date in this turn of the event loop, and while they are busy."""
        return self._cells.take(slots, axis=0)

    def any_busy(self, cells: Cells) -> bool:
        """Returns whether a run that left the event loop holds one of the sessions."""
        return bool(cells[:, _BUSY].any())

    def classify(
        self,
        cells: Cells,
        handles: Handles,
        owner: NDArray[np.integer] | int,
        positions: NDArray[np.uint64],
        steps: NDArray[np.unsignedinteger] | int,
        digests: NDArray[np.uint64],
    ) -> RowVerdicts:
        """Classifies rows by handle, owner and start position. Changes nothing.

        A row is good when its handle is valid and its start is the session's position, or when it repeats the
        session's last request: same start, same number of steps, same digest of the input.
        """
        current = cells[:, _POSITION]
        valid = _are_valid(cells, handles, owner)
        good = valid & (positions == current)
        if good.all():
            return RowVerdicts(None, None)
        # NO_POSITION in a request matches no session: its other copy may be what another one left there.
        retry = (
            valid
            & (positions != NO_POSITION)
            & (positions == cells[:, _PREVIOUS])
            & (positions + np.asarray(steps, np.uint64) == current)
            & (digests == cells[:, _DIGEST])
        )
        return RowVerdicts(good | retry, retry if retry.any() else None)

    def positions_of(self, slots: Slots) -> NDArray[np.uint64]:
        """Returns the time steps that sessions have consumed."""
        return np.asarray(self.position[slots])

    def arena_indices(self, cells: Cells, retry: NDArray[np.bool_] | None) -> NDArray[np.intp]:
        """Returns arena indices of the states that rows start from: current, or for retries previous ones."""
        indices = cells.view(np.intp)[:, _ARENA_INDEX]
        return indices if retry is None else indices ^ retry

    def next_arena_indices(self, cells: Cells) -> NDArray[np.intp]:
        """Returns arena indices of the older copies, which the next states overwrite."""
        return np.asarray(cells.view(np.intp)[:, _ARENA_INDEX] ^ 1)

    def previous_positions(self, cells: Cells) -> NDArray[np.uint64]:
        """Returns positions before the last requests; NO_POSITION: there is none."""
        return cells[:, _PREVIOUS]

    def advance(
        self,
        slots: Slots,
        cells: Cells,
        steps: NDArray[np.unsignedinteger] | int,
        digests: NDArray[np.uint64],
    ) -> None:
        """Makes the overwritten copies the current ones, and adds the steps to the positions.

        Args:
            slots: The sessions.
            cells: Their cells as read; overwritten. Whether a session is busy stays as read.
            steps: Time steps of each session.
            digests: Digests of the rows.
        """
        cells[:, _PREVIOUS] = cells[:, _POSITION]
        cells[:, _POSITION] += np.asarray(steps, np.uint64)
        cells[:, _ARENA_INDEX] ^= np.uint64(1)
        cells[:, _DIGEST] = digests
        cells.view(np.float64)[:, _LAST_USE] = self._clock()
        self._cells[slots] = cells
        if self.changed is not None:
            self.changed.note(slots)

    # --- one session: the same in scalars, at a tenth of the cost ---

    def model_of_handle(self, handle: int, *, owner: int) -> int | None:
        """Returns the number of the model version of an owner's session; None: the handle is void."""
        at = self._slot(handle) * _CELLS
        pinned = self._scalars[at + _PINNED]
        return pinned & 0xFFFF_FFFF if self._scalars[at] == handle and pinned >> 32 == owner else None

    def ready_slot(self, handle: int, owner: int, position: int) -> int | None:
        """Returns the slot of a session that can take a new step at once; None: `classify` has to decide."""
        slot = handle & SLOT_MASK
        if slot >= self._capacity:
            return None
        at, cells = slot * _CELLS, self._scalars
        good = (
            cells[at + _HANDLE] == handle
            and cells[at + _POSITION] == position
            and cells[at + _PINNED] >> 32 == owner
            and not cells[at + _BUSY]
        )
        return slot if good else None

    def advance_one(self, slot: int, digest: int) -> None:
        """Works like `advance`, for one session and one step."""
        at, cells = slot * _CELLS, self._scalars
        position = cells[at + _POSITION]
        cells[at + _PREVIOUS] = position
        cells[at + _POSITION] = position + 1
        cells[at + _ARENA_INDEX] ^= 1
        cells[at + _DIGEST] = digest
        self.last_use_s[slot] = self._clock()
        if self.changed is not None:
            self.changed.note_one(slot)

    def clear(self, slot: int) -> None:
        """Frees a slot: without handle, owner, state or position."""
        self._cells[slot] = 0

    def arena_index(self, slot: int) -> int:
        """Returns the arena index of the session's current state."""
        return int(self.current_index[slot])

    def touch(self, slots: Slots | int) -> None:
        """Notes that sessions were used now."""
        self.last_use_s[slots] = self._clock()

    def _slot(self, handle: int) -> int:
        return min(handle & SLOT_MASK, self._capacity - 1)


def _are_valid(cells: Cells, handles: Handles, owner: NDArray[np.integer] | int) -> NDArray[np.bool_]:
    """Marks the handles that their cells hold, for that owner, with True."""
    return np.asarray((cells[:, _HANDLE] == handles) & (cells.view(np.uint32)[:, 2 * _PINNED + 1] == owner))
