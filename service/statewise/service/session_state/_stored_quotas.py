"""Limits what the store keeps: sessions and bytes of each owner, and bytes of all owners together.

Counts what this server opens and closes. What other servers do, and what is deleted after its retention, it
is told now and then (`set_held`).
"""

from collections import Counter

from statewise.service.base import ServiceError
from statewise.wire import Reason

ALL_OWNERS = 0
"""Stands for all owners together. No owner has this number."""


class StoredQuotas:
    """Counts stored sessions, awake and asleep, by the owner's number.

    Args:
        owner_sessions: Sessions of one owner at most; None: no limit per owner.
        owner_bytes: Stored bytes of one owner at most; None: no limit per owner.
        store_bytes: Stored bytes of all owners at most; None: no limit.
    """

    def __init__(
        self, *, owner_sessions: int | None, owner_bytes: int | None, store_bytes: int | None
    ) -> None:
        self._owner_sessions = owner_sessions
        self._owner_bytes = owner_bytes
        self._store_bytes = store_bytes
        self._sessions: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()
        self._opened: Counter[int] = Counter()
        self._opened_bytes: Counter[int] = Counter()

    @property
    def has_limits(self) -> bool:
        """Whether anything is limited."""
        return (self._owner_sessions, self._owner_bytes, self._store_bytes) != (None, None, None)

    def held(self, owner: int) -> tuple[int, int]:
        """Returns sessions and bytes of an owner, or of `ALL_OWNERS`."""
        return self._sessions[owner], self._bytes[owner]

    def opened(self, owner: int) -> tuple[int, int]:
        """Returns sessions and bytes that were taken here and not given back, whatever they were set to."""
        return self._opened[owner], self._opened_bytes[owner]

    def set_held(self, owner: int, sessions: int, stored_bytes: int) -> None:
        """Sets what an owner, or `ALL_OWNERS`, has."""
        self._sessions[owner] = sessions
        self._bytes[owner] = stored_bytes

    def has_room(self, owner: int, sessions: int, stored_bytes: int) -> bool:
        """Returns whether an owner may have that much more, as far as is known."""
        return self._refusal(owner, sessions, stored_bytes) is None

    def take(self, owner: int, stored_bytes: int) -> None:
        """Counts a new session.

        Raises:
            ServiceError: SESSION_LIMIT, BYTES_LIMIT: the owner, or the store, is at a limit already.
        """
        self._take(owner, 1, stored_bytes)

    def take_bytes(self, owner: int, stored_bytes: int) -> None:
        """Counts bytes that a session takes later. Raises ServiceError (BYTES_LIMIT)."""
        self._take(owner, 0, stored_bytes)

    def _take(self, owner: int, sessions: int, stored_bytes: int) -> None:
        refusal = self._refusal(owner, sessions, stored_bytes)
        if refusal is not None:
            raise ServiceError(*refusal)
        self._change(owner, sessions, stored_bytes)

    def give_back(self, owner: int, stored_bytes: int) -> None:
        """Counts the end of a session."""
        self._change(owner, -1, -stored_bytes)

    def give_back_bytes(self, owner: int, stored_bytes: int) -> None:
        """Counts bytes that a session takes no longer."""
        self._change(owner, 0, -stored_bytes)

    def _change(self, owner: int, sessions: int, stored_bytes: int) -> None:
        for number in (owner, ALL_OWNERS):
            self._sessions[number] += sessions
            self._bytes[number] += stored_bytes
            self._opened[number] += sessions
            self._opened_bytes[number] += stored_bytes

    def _refusal(self, owner: int, sessions: int, stored_bytes: int) -> tuple[Reason, str] | None:
        held, used = self.held(owner)
        if sessions and self._owner_sessions is not None and held + sessions > self._owner_sessions:
            return Reason.SESSION_LIMIT, (
                f"{held} sessions of this owner are open, awake or asleep; expected at most "
                f"{self._owner_sessions}: close some"
            )
        if self._owner_bytes is not None and used + stored_bytes > self._owner_bytes:
            return Reason.BYTES_LIMIT, (
                f"this owner's sessions fill {used} of {self._owner_bytes} bytes in the store: close some"
            )
        used = self._bytes[ALL_OWNERS]
        if self._store_bytes is not None and used + stored_bytes > self._store_bytes:
            return Reason.BYTES_LIMIT, f"sessions fill {used} of the store's {self._store_bytes} bytes"
        return None
