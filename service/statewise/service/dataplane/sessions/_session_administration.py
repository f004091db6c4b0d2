"""Shows sessions and ends them by id, for operators.

Looking at a session neither wakes it nor counts as use.
"""

from dataclasses import replace

from statewise.service.dataplane.sessions._session_directory import SessionDirectory
from statewise.service.dataplane.sessions._session_listing import ListedSession, SessionListing
from statewise.service.dataplane.sessions._session_turns import SessionTurns
from statewise.service.dataplane.sessions._stored_sessions import StoredSessions
from statewise.service.session_state import SessionTable


class SessionAdministration:
    """Operations that need no handle.

    Args:
        table: The sessions.
        directory: Finds and ends sessions.
        turns: Orders operations.
        listing: Lists sessions.
        stored: Sessions of the store; None: there is no store.
    """

    def __init__(
        self,
        table: SessionTable,
        *,
        directory: SessionDirectory,
        turns: SessionTurns,
        listing: SessionListing,
        stored: StoredSessions | None = None,
    ) -> None:
        self._table = table
        self._directory = directory
        self._turns = turns
        self._stored = stored
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
        slot = self._directory.require(session_id, owner)
        (found,) = self.listing.describe([slot])
        return replace(found, checkpoints=self._directory.model_of(slot).kept.checkpoints.of(slot))

    async def close(self, session_id: str, *, owner: str) -> None:
        """Ends a session, awake or asleep, also if another client uses it; with a store durably.

        Raises:
            ServiceError: SESSION_NOT_FOUND, SESSION_EXPIRED, STORE_UNAVAILABLE.
        """
        number = self._table.known_owner(owner)

        def end(_: int, slot: int) -> None:
            if self._table.find(number, session_id) == slot:
                self._directory.end(slot)

        slot = self._table.find(number, session_id)
        if self._stored is not None:
            self._stored.refuse_ends(1)
        if slot is not None:
            await self._turns.run({0: slot}, end)
        if self._stored is not None:
            if slot is not None:
                await self._stored.settle()
            # Also where it was in memory: another server may have taken it over.
            if await self._stored.sleeping.end_named(self._table.owner_number(owner), session_id):
                return
        if slot is None:
            self._directory.require(session_id, owner)
