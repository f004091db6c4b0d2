"""Remembers why handles are void and which sessions expired, for the reason in the reply to a late request.

An owner learns only of its own sessions. The oldest entries are forgotten first.
"""

from collections import OrderedDict

from statewise.wire import Reason


class EndedSessions:
    """Void handles and expired ids, by owner.

    Args:
        remembered: Handles at most, and ids at most.
    """

    def __init__(self, remembered: int) -> None:
        self._remembered = remembered
        self._reasons: OrderedDict[tuple[int, int], Reason] = OrderedDict()
        self._expired: OrderedDict[tuple[int, str], None] = OrderedDict()

    def add_handle(self, owner: int, handle: int, reason: Reason) -> None:
        """Notes why a handle is void from now on."""
        self._reasons[owner, handle] = reason
        if len(self._reasons) > self._remembered:
            self._reasons.popitem(last=False)

    def reason_of(self, owner: int, handle: int) -> Reason:
        """Returns why a handle is void; SESSION_NOT_FOUND where nothing is remembered."""
        return self._reasons.get((owner, handle), Reason.SESSION_NOT_FOUND)

    def add_expired(self, owner: int, session_id: str) -> None:
        """Notes that a session ended for being idle."""
        self._expired[owner, session_id] = None
        if len(self._expired) > self._remembered:
            self._expired.popitem(last=False)

    def forget_expired(self, owner: int, session_id: str) -> None:
        """Notes that a session of that id is open again."""
        self._expired.pop((owner, session_id), None)

    def has_expired(self, owner: int, session_id: str) -> bool:
        """Returns whether the last session of that id ended for being idle, as far as remembered."""
        return (owner, session_id) in self._expired
