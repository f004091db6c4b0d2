"""All open sessions, as columns over slots.

Not the state itself (that is in each version's StateArena) and not the rules of who may do what when
(dataplane, scheduler). A frame of a thousand sessions is looked up, checked and advanced with a few array
operations; there is no object per session but its name. A handle's low 24 bits are its slot, the others are
random: looking up is one indexing, and a handle is right exactly when its slot holds that very handle.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import SLOT_BITS, Cells, Handles, RowFailure, Slots
from statewise.service.session_state._arena import reserve
from statewise.wire import Reason

_SLOT_MASK = (1 << SLOT_BITS) - 1
_NO_POSITION = np.uint64(2**64 - 1)
_REMEMBERED = 65_536
_LOOK_SLOTS = 65_536
"""Slots that one look at all sessions goes over: about half a millisecond, however many there are."""
_LOOK_FINDS = 256
_PAGE_LOOKS = 16
_UNKNOWN_OWNER = -1

# A session's cells, 8 bytes each. A tenant is (owner, model), 4 bytes each; a place is where the current copy
# of the state lies in the arena: 2 * row + parity.
_HANDLE, _POSITION, _TENANT, _BUSY, _ARENA_INDEX, _PREVIOUS, _DIGEST, _LAST_USE = range(8)
_CELLS = 8

_WHY_VOID = {
    Reason.SESSION_NOT_FOUND: "stands for no open session",
    Reason.SESSION_MOVED: "is void: the session was resumed elsewhere",
    Reason.SESSION_EXPIRED: "is void: the session was idle for too long and has ended",
}


@dataclass(frozen=True, slots=True)
class SessionView:
    """One session as it stands, for replies and listings."""

    session_id: str
    owner: str
    handle: int
    model: int
    epoch: int
    position: int
    idle_s: float


@dataclass(frozen=True, slots=True)
class RowVerdicts:
    """Which rows of a request may run, and from which copy of their state.

    Attributes:
        good: True where the row may run, or None: all may.
        retry: True where the row repeats the session's last request, or None: none does.
    """

    good: NDArray[np.bool_] | None
    retry: NDArray[np.bool_] | None


class SessionTable:
    """Columns over slots, and the names of the sessions.

    Args:
        capacity: Sessions at most, up to 2**24.
        clock: Seconds, monotonic.
        random_bits: Gives that many random bits; unpredictable outside tests.
    """

    def __init__(
        self,
        capacity: int,
        *,
        clock: Callable[[], float],
        random_bits: Callable[[int], int] = secrets.randbits,
    ) -> None:
        self._capacity = capacity
        self._clock = clock
        self._random_bits = random_bits
        # What a step reads and writes of a session lies side by side, in one cache line: a frame is read with
        # one gather and written with one scatter. The columns are views.
        self._cells = reserve((capacity, _CELLS), np.uint64)
        self._scalars = self._cells.reshape(-1).data
        self._handle = self._cells[:, _HANDLE]
        self._position = self._cells[:, _POSITION]
        self._model = self._cells.view(np.uint32)[:, 2 * _TENANT]
        self._owner = self._cells.view(np.uint32)[:, 2 * _TENANT + 1]
        self._arena_index = self._cells.view(np.int64)[:, _ARENA_INDEX]
        self._previous_position = self._cells[:, _PREVIOUS]
        self._digest = self._cells[:, _DIGEST]
        self._last_use_s = self._cells.view(np.float64)[:, _LAST_USE]
        self.busy = self._cells[:, _BUSY]
        """Not 0 while a run that left the event loop holds the session's state."""
        self._epoch = reserve((capacity,), np.uint32)
        self._names: list[str] = []
        self._slot_of: dict[tuple[int, str], int] = {}
        self._free: list[int] = []
        self._owners: list[str] = []
        self._owner_numbers: dict[str, int] = {}
        self._void: OrderedDict[tuple[int, int], Reason] = OrderedDict()
        self._expired: OrderedDict[tuple[int, str], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._slot_of)

    @property
    def is_full(self) -> bool:
        """Whether no session can be added."""
        return len(self._slot_of) >= self._capacity

    def owner_number(self, owner: str) -> int:
        """A small number for an owner's name, the same for the life of the process."""
        number = self._owner_numbers.get(owner)
        if number is None:
            number = self._owner_numbers[owner] = len(self._owners)
            self._owners.append(owner)
        return number

    def known_owner(self, owner: str) -> int:
        """The number of an owner who has one; of anybody else a number that nobody has."""
        return self._owner_numbers.get(owner, _UNKNOWN_OWNER)

    # --- one session at a time: opening, naming, ending ---

    def find(self, owner: int, session_id: str) -> int | None:
        """The slot of an owner's session, or None."""
        return self._slot_of.get((owner, session_id))

    def add(self, owner: int, session_id: str, *, model: int, row: int) -> int:
        """Opens a session at position 0 and gives its slot. The table must not be full, the id not in use."""
        if self._free:
            slot = self._free.pop()
            self._names[slot] = session_id
        else:
            slot = len(self._names)
            self._names.append(session_id)
        self._slot_of[owner, session_id] = slot
        self._expired.pop((owner, session_id), None)
        self._owner[slot] = owner
        self._model[slot] = model
        self._arena_index[slot] = 2 * row
        self._position[slot] = 0
        self._previous_position[slot] = _NO_POSITION
        self._epoch[slot] = 1
        self._last_use_s[slot] = self._clock()
        self._handle[slot] = self._new_handle(slot)
        return slot

    def take_over(self, slot: int) -> None:
        """A new incarnation: raises the epoch and voids the handle (SESSION_MOVED for who still has it)."""
        self._remember(slot, Reason.SESSION_MOVED)
        self._epoch[slot] += 1
        self._handle[slot] = self._new_handle(slot)
        self._last_use_s[slot] = self._clock()

    def rewind(self, slot: int, position: int) -> bool:
        """Goes back to a position that is kept: where the session stands, or before its last request.

        Raises the epoch where anything changes. False: the position is neither.
        """
        if position == int(self._position[slot]):
            return True
        if position != int(self._previous_position[slot]):
            return False
        self._position[slot] = position
        self._previous_position[slot] = _NO_POSITION
        self._arena_index[slot] ^= 1
        self._epoch[slot] += 1
        self._last_use_s[slot] = self._clock()
        return True

    def set_position(self, slot: int, position: int) -> None:
        """Says what position the state of a new session stands at."""
        self._position[slot] = position

    def arena_index(self, slot: int) -> int:
        """Where in the arena the session's current state is."""
        return int(self._arena_index[slot])

    def touch(self, slots: Slots | int) -> None:
        """Notes that sessions were asked for something."""
        self._last_use_s[slots] = self._clock()

    def idle_since(self, limit_s: float, start: int = 0) -> tuple[list[int], int | None]:
        """Sessions from slot `start` on that were last used before that time and are not running now.

        One look, bounded in what it goes over and in what it finds. Also says where the next one starts;
        None: that was the last.
        """
        here = slice(start, min(start + _LOOK_SLOTS, len(self._names)))
        old = (self._handle[here] != 0) & (self._last_use_s[here] < limit_s) & (self.busy[here] == 0)
        slots = (np.flatnonzero(old)[: _LOOK_FINDS + 1] + start).tolist()
        if len(slots) > _LOOK_FINDS:
            return slots[:-1], slots[-1]
        return slots, here.stop if here.stop < len(self._names) else None

    def idle_by_model(self, limit_s: float) -> dict[int, int]:
        """How many sessions of each model number were last used before that time. One pass over columns."""
        end = len(self._names)
        idle = (self._handle[:end] != 0) & (self._last_use_s[:end] < limit_s)
        numbers, counts = np.unique(self._model[:end][idle], return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))

    def has_expired(self, owner: int, session_id: str) -> bool:
        """Whether a session of that name was ended for being idle, as far as is remembered."""
        return (owner, session_id) in self._expired

    def expire(self, slot: int) -> int:
        """Ends a session that was idle too long, and remembers it for a while. Gives its arena row."""
        self._expired[int(self._owner[slot]), self._names[slot]] = None
        if len(self._expired) > _REMEMBERED:
            self._expired.popitem(last=False)
        self._remember(slot, Reason.SESSION_EXPIRED)
        return self.remove(slot)

    def remove(self, slot: int) -> int:
        """Ends a session and gives the arena row it had."""
        del self._slot_of[int(self._owner[slot]), self._names[slot]]
        self._names[slot] = ""
        self._handle[slot] = 0
        self._free.append(slot)
        return int(self._arena_index[slot]) >> 1

    def owner_of(self, slot: int) -> int:
        """Number of the owner of a session."""
        return int(self._owner[slot])

    def model_of(self, slot: int) -> int:
        """Number of the model version that a session is pinned to."""
        return int(self._model[slot])

    def view(self, slot: int) -> SessionView:
        """A session as it stands."""
        return SessionView(
            session_id=self._names[slot],
            owner=self._owners[int(self._owner[slot])],
            handle=int(self._handle[slot]),
            model=int(self._model[slot]),
            epoch=int(self._epoch[slot]),
            position=int(self._position[slot]),
            idle_s=self._clock() - float(self._last_use_s[slot]),
        )

    def names_of(self, handles: Handles, *, owner: int) -> list[str]:
        """Names of the owner's sessions whose handles are in force."""
        slots = self.slots_of(handles)
        return [self._names[slot] for slot in slots[self.are_valid(handles, slots, owner=owner)].tolist()]

    def page(
        self, start: int, size: int, *, owner: int | None, models: Sequence[int]
    ) -> tuple[list[int], int | None]:
        """Up to `size` slots of an owner's sessions (None: everybody's) from slot `start`, and where the next
        page starts; None: that was the last. A page may hold fewer, or none, before the last: it goes over
        so many slots and no more.
        """
        found: list[int] = []
        end = min(start + _PAGE_LOOKS * _LOOK_SLOTS, len(self._names))
        for begin in range(start, end, _LOOK_SLOTS):
            here = slice(begin, min(begin + _LOOK_SLOTS, end))
            wanted = self._handle[here] != 0
            if owner is not None:
                wanted &= self._owner[here] == owner
            wanted &= np.isin(self._model[here], models)
            found += (np.flatnonzero(wanted)[: size + 1] + begin).tolist()
            if len(found) > size:
                return found[:size], found[size]
        return found, end if end < len(self._names) else None

    # --- many sessions at once: the path of every step ---

    def slots_of(self, handles: Handles) -> Slots:
        """The slots that handles point at, whether or not they are held there."""
        slots = (handles & np.uint64(_SLOT_MASK)).view(np.intp)
        return np.minimum(slots, self._capacity - 1, out=slots)

    def has_repeats(self, slots: Slots) -> bool:
        """Whether a slot stands twice."""
        ordered = np.sort(slots)
        return bool((ordered[1:] == ordered[:-1]).any())

    def model_of_handle(self, handle: int, *, owner: int) -> int | None:
        """Number of the model version that an owner's session is pinned to; None: the handle is void."""
        at = self._slot(handle) * _CELLS
        tenant = self._scalars[at + _TENANT]
        return tenant & 0xFFFF_FFFF if self._scalars[at] == handle and tenant >> 32 == owner else None

    def are_valid(self, handles: Handles, slots: Slots, *, owner: int) -> NDArray[np.bool_]:
        """True where a slot holds that very handle, for that owner."""
        return _held(self.read(slots), handles, owner)

    def models_of_handles(self, handles: Handles, slots: Slots, *, owner: int) -> NDArray[np.uint32]:
        """Numbers of the model versions of the sessions whose handles are in force for that owner."""
        cells = self.read(slots)
        models = cells.view(np.uint32)[:, 2 * _TENANT]
        held = _held(cells, handles, owner)
        return models if held.all() else models[held]

    def read(self, slots: Slots) -> Cells:
        """What a step needs to know of sessions: true in this turn of the loop, and while they are busy."""
        return self._cells.take(slots, axis=0)

    def any_busy(self, cells: Cells) -> bool:
        """Whether a run that left the event loop holds one of them."""
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
        """Judges rows by handle, owner and start position. Changes nothing.

        A row is good when its handle is in force and it starts at the session's position, or repeats the last
        request: same start, same number of steps, same digest of the input.
        """
        current = cells[:, _POSITION]
        held = _held(cells, handles, owner)
        good = held & (positions == current)
        if good.all():
            return RowVerdicts(None, None)
        retry = (
            held
            & (positions == cells[:, _PREVIOUS])
            & (positions + np.asarray(steps, np.uint64) == current)
            & (digests == cells[:, _DIGEST])
        )
        return RowVerdicts(good | retry, retry if retry.any() else None)

    def explain(self, row: int, handle: int, position: int, *, owner: int) -> RowFailure:
        """Why `classify` refused a row."""
        refusal = self.refusal(row, handle, owner=owner)
        if refusal is not None:
            return refusal
        held = int(self._position[self._slot(handle)])
        return RowFailure(
            row,
            Reason.POSITION_MISMATCH,
            f"expected start position {held}, or a repetition of the request before it; got {position}",
            position=held,
        )

    def refusal(self, row: int, handle: int, *, owner: int) -> RowFailure | None:
        """Why a handle opens nothing to this owner; None: it is in force and theirs."""
        slot = self._slot(handle)
        if int(self._handle[slot]) == handle and int(self._owner[slot]) == owner:
            return None
        reason = self._void.get((owner, handle), Reason.SESSION_NOT_FOUND)
        return RowFailure(row, reason, f"handle {handle:#018x} {_WHY_VOID[reason]}")

    def positions_of(self, slots: Slots) -> NDArray[np.uint64]:
        """Time steps consumed."""
        return np.asarray(self._position[slots])

    def arena_indices(self, cells: Cells, retry: NDArray[np.bool_] | None) -> NDArray[np.intp]:
        """Where in the arena the rows' states are: the current copies, for retries the previous ones."""
        indices = cells.view(np.intp)[:, _ARENA_INDEX]
        return indices if retry is None else indices ^ retry

    def next_arena_indices(self, cells: Cells) -> NDArray[np.intp]:
        """Where in the arena the rows' next states go: over the older copies."""
        return np.asarray(cells.view(np.intp)[:, _ARENA_INDEX] ^ 1)

    def advance(
        self,
        slots: Slots,
        cells: Cells,
        steps: NDArray[np.unsignedinteger] | int,
        digests: NDArray[np.uint64],
    ) -> None:
        """Makes the older copies, written by now, the current ones, and moves the positions on.

        `cells` are those that were read, and are written over; the sessions are as busy then as they were.
        """
        cells[:, _PREVIOUS] = cells[:, _POSITION]
        cells[:, _POSITION] += np.asarray(steps, np.uint64)
        cells[:, _ARENA_INDEX] ^= np.uint64(1)
        cells[:, _DIGEST] = digests
        cells.view(np.float64)[:, _LAST_USE] = self._clock()
        self._cells[slots] = cells

    # --- one row: the same in scalars, a tenth of the cost ---

    def admit_one(self, handle: int, owner: int, position: int) -> int | None:
        """The slot of a session that may take a new step; None: `classify` knows more, or a run holds it."""
        slot = handle & _SLOT_MASK
        if slot >= self._capacity:
            return None
        at, cells = slot * _CELLS, self._scalars
        good = (
            cells[at + _HANDLE] == handle
            and cells[at + _POSITION] == position
            and cells[at + _TENANT] >> 32 == owner
            and not cells[at + _BUSY]
        )
        return slot if good else None

    def advance_one(self, slot: int, digest: int) -> None:
        """As `advance`, for one session and one step."""
        at, cells = slot * _CELLS, self._scalars
        position = cells[at + _POSITION]
        cells[at + _PREVIOUS] = position
        cells[at + _POSITION] = position + 1
        cells[at + _ARENA_INDEX] ^= 1
        cells[at + _DIGEST] = digest
        self._last_use_s[slot] = self._clock()

    # --- handles ---

    def _slot(self, handle: int) -> int:
        return min(handle & _SLOT_MASK, self._capacity - 1)

    def _new_handle(self, slot: int) -> int:
        """Never 0, which marks a free slot."""
        return (self._random_bits(64 - SLOT_BITS) or 1) << SLOT_BITS | slot

    def _remember(self, slot: int, reason: Reason) -> None:
        """Why the slot's handle is void from now on, for its owner: nobody else learns that it ever was."""
        self._void[int(self._owner[slot]), int(self._handle[slot])] = reason
        if len(self._void) > _REMEMBERED:
            self._void.popitem(last=False)


def _held(cells: Cells, handles: Handles, owner: NDArray[np.integer] | int) -> NDArray[np.bool_]:
    """True where a cell holds that very handle, for that owner."""
    return np.asarray((cells[:, _HANDLE] == handles) & (cells.view(np.uint32)[:, 2 * _TENANT + 1] == owner))
