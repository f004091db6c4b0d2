"""Limits the bytes of predictions and generations that are accepted and not yet delivered.

Callers give back exactly once what they have taken.
"""

from collections import Counter

from statewise.service.base import ServiceError
from statewise.wire import Reason

_RETRY_S = 0.25


class UndeliveredBytes:
    """Counts bytes of predictions under way, which slow readers make the server hold.

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
                f"inputs, states and outputs of the request take {size} bytes; expected at most "
                f"{self._owner_limit}",
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
