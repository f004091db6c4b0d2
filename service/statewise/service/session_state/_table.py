"""Opens, names, takes over and ends the sessions of the process.

The states are in each version's StateArena; dataplane and scheduler decide which operations may run. A
session has no Python object but its id.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from statewise.service.base import SLOT_BITS, Handles, RowFailure
from statewise.service.session_state._columns import NO_POSITION
from statewise.service.session_state._ended_sessions import EndedSessions
from statewise.service.session_state._stored_columns import StoredColumns
from statewise.wire import Reason

_NO_OWNER = 0
"""The owner of a free slot: the columns begin as zeros. No caller has this number."""
_UNKNOWN_OWNER = -1

_WHY_VOID = {
    Reason.SESSION_NOT_FOUND: "stands for no open session",
    Reason.SESSION_MOVED: "is void: the session was resumed elsewhere",
    Reason.SESSION_EXPIRED: "is void: the session was idle for too long and has ended",
    Reason.SESSION_LOST: "is void: the stored state of the session is damaged",
    Reason.MODEL_CHANGED: "is void: the session was stored with another content of its model version",
}


@dataclass(frozen=True, slots=True)
class SessionView:
    """One session at one moment, for replies and listings."""

    session_id: str
    owner: str
    handle: int
    model: int
    epoch: int
    birth: int
    position: int
    durable_position: int
    durability: int
    idle_s: float


class SessionTable(StoredColumns):
    """All open sessions: their columns, names and owners.

    Args:
        capacity: Sessions at most, up to 2**24.
        clock: Seconds, monotonic.
        random_bits: Gives that many random bits; unpredictable outside tests.
        remembered: Void handles, and expired ids, that are remembered for the reason in a reply.
    """

    def __init__(
        self,
        capacity: int,
        *,
        clock: Callable[[], float],
        random_bits: Callable[[int], int] = secrets.randbits,
        remembered: int = 65_536,
    ) -> None:
        super().__init__(capacity, clock=clock)
        self._random_bits = random_bits
        self._names: list[str] = []
        self._slot_of: dict[tuple[int, str], int] = {}
        self._free: list[int] = []
        self._owners = [""]  # at _NO_OWNER
        self._owner_numbers: dict[str, int] = {}
        self._ended = EndedSessions(remembered)

    def __len__(self) -> int:
        return len(self._slot_of)

    @property
    def is_full(self) -> bool:
        """Whether no session can be added."""
        return len(self._slot_of) >= self._capacity

    def lack_of_slots(self, sessions: int) -> int:
        """Returns how many sessions have to end before so many can be added."""
        return len(self._slot_of) + sessions - self._capacity

    @property
    def used_slots(self) -> int:
        """Slots that have ever held a session; slots from this one on are free."""
        return len(self._names)

    # --- owners ---

    def owner_number(self, owner: str) -> int:
        """Returns a small number from 1 for an owner's name, the same for the life of the process."""
        number = self._owner_numbers.get(owner)
        if number is None:
            number = self._owner_numbers[owner] = len(self._owners)
            self._owners.append(owner)
        return number

    def known_owner(self, owner: str) -> int:
        """Returns the number of an owner that has one; for any other name a number that no owner has."""
        return self._owner_numbers.get(owner, _UNKNOWN_OWNER)

    def owner_name(self, owner: int) -> str:
        """Returns the name of an owner by number."""
        return self._owners[owner]

    # --- opening and ending ---

    def find(self, owner: int, session_id: str) -> int | None:
        """Returns the slot of an owner's session, or None."""
        return self._slot_of.get((owner, session_id))

    def add(self, owner: int, session_id: str, *, model: int, row: int, birth: int = 0) -> int:
        """Opens a session at position 0. The table must not be full, nor the id in use.

        Args:
            owner: Number of the owner.
            session_id: The owner's name for the session.
            model: Number of the model version.
            row: Row of that version's arena.
            birth: Random number that distinguishes sessions of one id; 0: the session's first handle is used.

        Returns:
            The slot.
        """
        if self._free:
            slot = self._free.pop()
            self._names[slot] = session_id
        else:
            slot = len(self._names)
            self._names.append(session_id)
        self._slot_of[owner, session_id] = slot
        self._ended.forget_expired(owner, session_id)
        self.owner[slot] = owner
        self.model[slot] = model
        self.current_index[slot] = 2 * row
        self.position[slot] = 0
        self.previous_position[slot] = NO_POSITION
        self._epoch[slot] = self._claim_epoch[slot] = 1
        self.last_use_s[slot] = self._clock()
        self.handle[slot] = self._new_handle(slot)
        self._birth[slot] = self._holder[slot] = birth or self.handle[slot]
        self._note_opened(slot)
        return slot

    def take_over(self, slot: int, holder: int = 0) -> None:
        """Gives a session a new handle and raises its epoch; the old handle is void (SESSION_MOVED).

        Args:
            slot: The session.
            holder: Number by which its holder is known from then on; 0: by none.
        """
        self._note_void(slot, Reason.SESSION_MOVED)
        self.aliases.remove(slot)
        self._epoch[slot] += 1
        self._holder[slot] = holder
        self.handle[slot] = self._new_handle(slot)
        self.last_use_s[slot] = self._clock()
        self._changes(slot)

    def turn_to(self, slot: int, position: int, digest: int = 0) -> None:
        """Makes the other copy of a session's state the current one, and raises the epoch.

        The last request can neither be repeated nor taken back from then on.

        Args:
            slot: The session.
            position: Time steps that the copy has consumed.
            digest: Digest of the request that gave this state; 0: none is kept.
        """
        self.position[slot] = position
        self.previous_position[slot] = NO_POSITION
        self.digest[slot] = digest
        self.current_index[slot] ^= 1
        self._epoch[slot] += 1
        self.last_use_s[slot] = self._clock()
        self._changes(slot)

    def void_as_moved(self, slot: int) -> None:
        """Makes the handle of a session void that another server has: it is not stored any more."""
        self._note_void(slot, Reason.SESSION_MOVED)
        self.aliases.remove(slot)
        self.handle[slot] = self._new_handle(slot)
        self._forget_birth(slot)

    def lose(self, slot: int) -> int:
        """Ends a session in memory; the store keeps it. Returns its arena row."""
        self._forget_birth(slot)
        return self.remove(slot)

    def set_position(self, slot: int, position: int) -> None:
        """Sets the position of a new session whose state comes from elsewhere."""
        self.position[slot] = position
        self._changes(slot)

    def expire(self, slot: int) -> int:
        """Ends a session for being idle, and remembers that for a while. Returns its arena row."""
        self._ended.add_expired(int(self.owner[slot]), self._names[slot])
        self._note_void(slot, Reason.SESSION_EXPIRED)
        return self.remove(slot)

    def remove(self, slot: int) -> int:
        """Ends a session. Returns its arena row."""
        self._note_ended(slot)
        self.aliases.remove(slot)
        del self._slot_of[int(self.owner[slot]), self._names[slot]]
        self._names[slot] = ""
        self._free.append(slot)
        row = self.arena_index(slot) >> 1
        self.clear(slot)
        return row

    # --- looking at sessions ---

    def owner_of(self, slot: int) -> int:
        """Returns the number of the owner of a session."""
        return int(self.owner[slot])

    def model_of(self, slot: int) -> int:
        """Returns the number of the model version that a session is pinned to."""
        return int(self.model[slot])

    def is_open(self, slot: int) -> bool:
        """Returns whether a slot holds a session."""
        return bool(self.handle[slot])

    def name_of(self, slot: int) -> tuple[str, str]:
        """Returns owner and id of a session."""
        return self._owners[int(self.owner[slot])], self._names[slot]

    def view(self, slot: int) -> SessionView:
        """Describes a session at this moment."""
        return SessionView(
            session_id=self._names[slot],
            owner=self._owners[int(self.owner[slot])],
            handle=self.aliases.of_slot(slot) or int(self.handle[slot]),
            model=int(self.model[slot]),
            epoch=self.epoch_of(slot),
            birth=int(self._birth[slot]),
            position=int(self.position[slot]),
            durable_position=int(self._durable[slot]),
            durability=self.durability_of(slot),
            idle_s=self._clock() - float(self.last_use_s[slot]),
        )

    def names_of(self, handles: Handles, *, owner: int) -> list[str]:
        """Returns the ids of the owner's sessions; void handles are left out."""
        return [self._names[slot] for slot in self.valid_slots(handles, owner=owner).tolist()]

    def is_known_void(self, owner: int, handle: int) -> bool:
        """Returns whether it is remembered why a handle of that owner is void."""
        return self._ended.reason_of(owner, handle) is not Reason.SESSION_NOT_FOUND

    def has_expired(self, owner: int, session_id: str) -> bool:
        """Returns whether the last session of that id ended for being idle, as far as remembered."""
        return self._ended.has_expired(owner, session_id)

    def explain(self, row: int, handle: int, position: int, *, owner: int) -> RowFailure:
        """Returns why `classify` refused a row."""
        refusal = self.refusal(row, handle, owner=owner)
        if refusal is not None:
            return refusal
        held = int(self.position[self._slot(handle)])
        return RowFailure(
            row,
            Reason.POSITION_MISMATCH,
            f"expected start position {held}, or a repetition of the request before it; got {position}",
            position=held,
        )

    def refusal(self, row: int, handle: int, *, owner: int) -> RowFailure | None:
        """Returns why a handle is void for an owner; None: it is valid."""
        if self.model_of_handle(handle, owner=owner) is not None:
            return None
        return self.void(row, handle, owner=owner)

    def void(self, row: int, handle: int, *, owner: int) -> RowFailure:
        """Returns why a handle that is not valid for an owner is void."""
        reason = self._ended.reason_of(owner, handle)
        return RowFailure(row, reason, f"handle {handle:#018x} {_WHY_VOID[reason]}")

    def _new_handle(self, slot: int) -> int:
        """Draws a handle, never 0, which marks a free slot."""
        return (self._random_bits(64 - SLOT_BITS) or 1) << SLOT_BITS | slot

    def note_void(self, owner: int, handle: int, reason: Reason) -> None:
        """Notes why an owner's handle is void from now on."""
        self._ended.add_handle(owner, handle, reason)

    def _note_void(self, slot: int, reason: Reason) -> None:
        owner = int(self.owner[slot])
        self.note_void(owner, int(self.handle[slot]), reason)
        if alias := self.aliases.of_slot(slot):
            self.note_void(owner, alias, reason)
