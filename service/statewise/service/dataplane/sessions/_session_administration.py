"""Shows sessions and ends them by id, for operators.

Looking at a session neither wakes it nor counts as use.
"""

from statewise.service.dataplane.sessions._session_directory import SessionDirectory
from statewise.service.dataplane.sessions._session_listing import ListedSession, SessionListing
from statewise.service.dataplane.sessions._session_turns import SessionTurns
from statewise.service.session_state import SessionTable


class SessionAdministration:
    """Operations that need no handle.

    Args:
        table: The sessions.
        directory: Finds and ends sessions.
        turns: Orders operations.
        listing: Lists sessions.
    """

    def __init__(
        self,
        table: SessionTable,
        *,
        directory: SessionDirectory,
        turns: SessionTurns,
        listing: SessionListing,
    ) -> None:
        self._table = table
        self._directory = directory
        self._turns = turns
        self.listing = listing
        """Lists sessions page by page."""

    async def get(self, session_id: str, *, owner: str) -> ListedSession:
        """Describes one session.

        Raises:
            ServiceError: SESSION_NOT_FOUND, SESSION_EXPIRED, STORE_UNAVAILABLE.
        """
        if self._table.find(self._table.known_owner(owner), session_id) is None:
            asleep = await self.listing.stored_one(owner, session_id)
            if asleep is not None:
                return asleep
        (found,) = self.listing.describe([self._directory.require(session_id, owner)])
        return found

    async def close(self, session_id: str, *, owner: str) -> None:
        """Ends a session, also if another client uses it.

        Raises:
            ServiceError: SESSION_NOT_FOUND, SESSION_EXPIRED.
        """
        number = self._table.known_owner(owner)

        def end(_: int, slot: int) -> None:
            if self._table.find(number, session_id) == slot:
                self._directory.end(slot)

        await self._turns.run({0: self._directory.require(session_id, owner)}, end)
