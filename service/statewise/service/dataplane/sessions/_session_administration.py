"""Lists sessions and ends them by id, for operators.

Listing a session does not count as using it.
"""

from statewise.service.dataplane.sessions._session_directory import OpenedSession, SessionDirectory
from statewise.service.dataplane.sessions._session_turns import SessionTurns
from statewise.service.registry import ModelRegistry
from statewise.service.session_state import SessionScan, SessionTable


class SessionAdministration:
    """Operations that need no handle.

    Args:
        models: The served models.
        table: The sessions.
        scan: Searches the table.
        directory: Finds and ends sessions.
        turns: Orders operations.
    """

    def __init__(
        self,
        models: ModelRegistry,
        table: SessionTable,
        *,
        scan: SessionScan,
        directory: SessionDirectory,
        turns: SessionTurns,
    ) -> None:
        self._models = models
        self._table = table
        self._scan = scan
        self._directory = directory
        self._turns = turns

    def page(
        self, *, owner: str | None, start: int, size: int, model: str
    ) -> tuple[list[OpenedSession], int | None]:
        """Returns a page of sessions, and the start of the next page; None: that was the last.

        Args:
            owner: Whose sessions; None: everybody's.
            start: 0, or the start of a next page.
            size: Sessions on the page at most.
            model: Name of their model; empty: any.
        """
        numbers = [loaded.number for loaded in self._models if not model or loaded.package.name == model]
        number = None if owner is None else self._table.known_owner(owner)
        slots, following = self._scan.page(start, size, owner=number, models=numbers)
        return [self._directory.describe(slot, created=False) for slot in slots], following

    def get(self, session_id: str, *, owner: str) -> OpenedSession:
        """Describes one session. Raises ServiceError (SESSION_NOT_FOUND, SESSION_EXPIRED)."""
        return self._directory.describe(self._directory.require(session_id, owner), created=False)

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
