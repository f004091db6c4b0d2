"""Limits what each owner holds: sessions, bytes of state, bytes of undelivered predictions.

Callers give back exactly once what they have taken.
"""

from collections import Counter

from statewise.service.base import ServiceError
from statewise.wire import Reason

_RETRY_S = 0.25


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
        used = self._bytes[owner]
        if self._bytes_limit is not None and used + state_bytes > self._bytes_limit:
            raise ServiceError(
                Reason.BYTES_LIMIT,
                f"the state of this owner's sessions fills {used} of {self._bytes_limit} bytes: close some",
            )
        self._sessions[owner] += 1
        self._bytes[owner] += state_bytes

    def give_back(self, owner: int, state_bytes: int) -> None:
        """Counts the end of a session."""
        self._sessions[owner] -= 1
        self._bytes[owner] -= state_bytes


class UndeliveredBytes:
    """Counts bytes of inputs and outputs of predictions under way, which slow readers make the server hold.

    Args:
        limit: Bytes of all owners at most.
        owner_limit: Bytes of one owner at most; None: no limit per owner.
    """

    def __init__(self, *, limit: int, owner_limit: int | None) -> None:
        self._limit = limit
        self._owner_limit = limit if owner_limit is None else min(owner_limit, limit)
        self._all = 0
        self._of_owner: Counter[int] = Counter()

    def take(self, owner: int, size: int) -> None:
        """Counts a prediction.

        Raises:
            ServiceError: BYTES_LIMIT: the prediction alone exceeds the limit; QUEUE_FULL: no space now.
        """
        if size > self._owner_limit:
            raise ServiceError(
                Reason.BYTES_LIMIT,
                f"inputs and outputs of the request take {size} bytes; expected at most {self._owner_limit}",
            )
        if self._all + size > self._limit or self._of_owner[owner] + size > self._owner_limit:
            raise ServiceError(
                Reason.QUEUE_FULL,
                f"predictions that are not delivered yet leave no room for {size} bytes; read what was asked "
                f"for, or try again in {_RETRY_S} s",
                retry_after_s=_RETRY_S,
            )
        self._all += size
        self._of_owner[owner] += size

    def give_back(self, owner: int, size: int) -> None:
        """Counts the end of a prediction."""
        self._all -= size
        self._of_owner[owner] -= size
