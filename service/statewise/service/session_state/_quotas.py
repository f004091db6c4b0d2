"""Limits what each owner holds: sessions and bytes of state.

Callers give back exactly once what they have taken.
"""

from collections import Counter

from statewise.service.base import ServiceError
from statewise.wire import Reason


class Quotas:
    """Counts sessions and bytes of state by the owner's number.

    Args:
        sessions: Sessions of one owner at most; None: no limit per owner.
        state_bytes: Bytes of state of one owner at most; None: no limit per owner.
    """

    def __init__(self, *, sessions: int | None, state_bytes: int | None) -> None:
        self._sessions_limit = sessions
        self._bytes_limit = state_bytes
        self._sessions: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()

    def take(self, owner: int, state_bytes: int) -> None:
        """Counts a new session.

        Raises:
            ServiceError: SESSION_LIMIT, BYTES_LIMIT: the owner is at a limit already.
        """
        held = self._sessions[owner]
        if self._sessions_limit is not None and held >= self._sessions_limit:
            raise ServiceError(
                Reason.SESSION_LIMIT,
                f"{held} sessions of this owner are open, as many as one owner may have: close some",
            )
        self.take_bytes(owner, state_bytes)
        self._sessions[owner] += 1

    def take_bytes(self, owner: int, state_bytes: int) -> None:
        """Counts bytes that a session takes beside those of its opening.

        Raises:
            ServiceError: BYTES_LIMIT: the owner is at the limit already.
        """
        used = self._bytes[owner]
        if self._bytes_limit is not None and used + state_bytes > self._bytes_limit:
            raise ServiceError(
                Reason.BYTES_LIMIT,
                f"the state of this owner's sessions fills {used} of {self._bytes_limit} bytes: close some",
            )
        self._bytes[owner] += state_bytes

    def lack_bytes(self, owner: int, state_bytes: int) -> int:
        """Returns by how many bytes an owner's limit would be exceeded; 0: by none."""
        if self._bytes_limit is None:
            return 0
        return max(0, self._bytes[owner] + state_bytes - self._bytes_limit)

    def give_back(self, owner: int, state_bytes: int) -> None:
        """Counts the end of a session."""
        self._sessions[owner] -= 1
        self.give_back_bytes(owner, state_bytes)

    def give_back_bytes(self, owner: int, state_bytes: int) -> None:
        """Counts bytes that a session takes no longer."""
        self._bytes[owner] -= state_bytes
