"""Keeps what a store has to know of every session beside what a step reads: a column each.

These columns are read and written when sessions are opened, taken over, stored and woken. No step does it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Slots
from statewise.service.session_state._arena import reserve
from statewise.service.session_state._columns import SessionColumns
from statewise.service.session_state._durability import Durability
from statewise.service.session_state._handle_aliases import HandleAliases


def public_epoch(claim_epoch: int, changes: int = 1) -> int:
    """Returns the epoch that callers see. It never falls, also where a killed server forgets changes.

    Args:
        claim_epoch: Of the claim by which a server has the session, from 1.
        changes: Resumes and rewinds on that server, and 1 for the claim.
    """
    return (claim_epoch - 1 << 32) + changes


class StoredColumns(SessionColumns):
    """Births, holders, epochs, and how far sessions are stored.

    Args:
        capacity: Sessions at most, up to 2**24.
        clock: Seconds, monotonic.
    """

    def __init__(self, capacity: int, *, clock: Callable[[], float]) -> None:
        super().__init__(capacity, clock=clock)
        self._epoch = reserve((capacity,), np.uint32)
        self._claim_epoch = reserve((capacity,), np.uint32)
        self._birth = reserve((capacity,), np.uint64)
        self._holder = reserve((capacity,), np.uint64)
        self._durable = reserve((capacity,), np.uint64)
        self._durability = reserve((capacity,), np.uint8)
        self.durability_was_chosen = False
        """Whether a session has ever been opened, resumed or woken with a durability of its own."""
        self._births: set[int] = set()
        self.aliases = HandleAliases(capacity)
        """Lead from the handles that clients have to sessions that woke in another slot."""

    def has_birth(self, birth: int) -> bool:
        """Whether a session of this birth is open; False without a store, which alone needs it."""
        return birth in self._births

    def birth_of(self, slot: int) -> int:
        """Returns the number that distinguishes a session from others of its id, ended or open elsewhere."""
        return int(self._birth[slot])

    def durabilities_of(self, slots: Slots) -> NDArray[np.uint8]:
        """Returns the `Durability` of sessions."""
        return self._durability[slots]

    def durability_of(self, slot: int) -> int:
        """Returns the `Durability` of a session."""
        return int(self._durability[slot])

    def choose_durability(self, slot: int, durability: int) -> None:
        """Gives a session a durability of its own, or the server's. The caller changes the session, too."""
        self._durability[slot] = durability
        self.durability_was_chosen |= durability != Durability.OF_SERVER

    def births_of(self, slots: Slots) -> NDArray[np.uint64]:
        """Returns the births of sessions; 0 for one that another server is known to have."""
        return self._birth[slots]

    def holder_of(self, slot: int) -> int:
        """Returns the number of the client that opened or resumed the session last; 0: it has none."""
        return int(self._holder[slot])

    def numbers_of(self, slots: Slots) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint32]]:
        """Returns births, holders, and the epochs by which the store knows this server as the owner.

        Those rise only when a server claims the session. An epoch that rose here would pass for the claim of
        another server.
        """
        return self._birth[slots], self._holder[slots], self._claim_epoch[slots]

    def epoch_of(self, slot: int) -> int:
        """Returns the epoch that callers see; see `public_epoch`."""
        return public_epoch(int(self._claim_epoch[slot]), int(self._epoch[slot]))

    def adopt(
        self,
        slot: int,
        *,
        holder: int,
        epoch: int,
        position: int,
        previous: int,
        digest: int,
        parity: int,
        durability: int,
    ) -> None:
        """Gives a new session what a store has kept of it; the store knows its name, and this position.

        Args:
            slot: The session, new, with its birth.
            holder: Number of its holder.
            epoch: Its epoch, of the claim.
            position: Time steps consumed.
            previous: Position before the last request.
            digest: Digest of the last request.
            parity: Which copy of its state is the current one.
            durability: Its `Durability`.
        """
        assert self.changed is not None
        self.changed.note_stored(self.birth_of(slot))
        self._holder[slot] = holder
        self._claim_epoch[slot] = epoch
        self.position[slot] = self._durable[slot] = position
        self.previous_position[slot] = previous
        self.digest[slot] = digest
        self.current_index[slot] |= parity
        self.choose_durability(slot, durability)

    def go_on(self, slot: int, *, handle: int, changes: int) -> None:
        """Lets the client of a session that woke go on with the handle that it has: an alias from then on.

        Args:
            slot: The session.
            handle: The handle.
            changes: Lower half of the epoch that the client has seen.
        """
        self.aliases.add(slot, handle)
        self._epoch[slot] = max(1, changes)

    def changes_of(self, slots: Slots) -> NDArray[np.uint32]:
        """Returns the lower halves of the epochs that callers see; see `public_epoch`."""
        return self._epoch[slots]

    def note_durable(self, slots: Slots, births: NDArray[np.uint64], positions: NDArray[np.uint64]) -> None:
        """Notes up to which positions sessions are stored. Slots with another session by now are left out."""
        same = self._birth[slots] == births
        self._durable[slots[same]] = positions[same]

    def durable_positions(self, slots: Slots) -> NDArray[np.uint64]:
        """Returns up to which positions sessions are stored."""
        return self._durable[slots]

    def note_claimed(self, slot: int, epoch: int) -> None:
        """Notes a claim of a session in memory, and its epoch."""
        self._claim_epoch[slot] = max(int(self._claim_epoch[slot]), epoch)

    def note_lost(self, slot: int) -> None:
        """Notes that the store does not know a session any more."""
        self._durable[slot] = 0
        if self.changed is not None:
            self.changed.note_opened(slot, self.birth_of(slot))

    def note_changed(self, slots: Slots) -> None:
        """Notes that sessions are to be written, to learn whether they are still this server's."""
        if self.changed is not None:
            self.changed.note(slots)

    def _note_opened(self, slot: int) -> None:
        self._durable[slot] = 0
        self._durability[slot] = Durability.OF_SERVER
        if self.changed is not None:
            self._births.add(self.birth_of(slot))
            self.changed.note_opened(slot, self.birth_of(slot))

    def _note_ended(self, slot: int) -> None:
        birth = self.birth_of(slot)
        if self.changed is not None and birth:
            self._births.discard(birth)
            self.changed.note_ended(birth)

    def _forget_birth(self, slot: int) -> None:
        """Makes a session one that is not stored: what happens to it from now on is not for the store."""
        birth = self.birth_of(slot)
        self._births.discard(birth)
        if self.changed is not None:
            self.changed.forget_checkpoints(birth)
        self._birth[slot] = 0

    def _changes(self, slot: int) -> None:
        """Notes that a session is not stored as it is."""
        if self.changed is not None:
            self.changed.note_one(slot)
