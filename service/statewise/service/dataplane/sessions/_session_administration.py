"""Lists sessions and ends them by id, for operators.

Listing a session does not count as using it.
"""

from dataclasses import dataclass

import numpy as np

from statewise.service.dataplane.sessions._session_directory import SessionDirectory
from statewise.service.dataplane.sessions._session_turns import SessionTurns
from statewise.service.registry import LoadedModel, ModelRegistry
from statewise.service.session_state import SessionScan, SessionTable, SessionView


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session in a listing.

    Attributes:
        view: Its record in the table.
        model: Its version.
        nonfinite_state: Whether its state holds a NaN or an infinite number.
    """

    view: SessionView
    model: LoadedModel
    nonfinite_state: bool


class SessionAdministration:
    """Operations that need no handle.

    Args:
        models: The served models.
        table: The sessions.
        scan: Searches the table.
        directory: Finds and ends sessions.
        turns: Orders operations.
        page_state_bytes: Bytes of states that a page of a listing reads at most: some milliseconds' work.
    """

    def __init__(
        self,
        models: ModelRegistry,
        table: SessionTable,
        *,
        scan: SessionScan,
        directory: SessionDirectory,
        turns: SessionTurns,
        page_state_bytes: int = 16 * 2**20,
    ) -> None:
        self._models = models
        self._table = table
        self._scan = scan
        self._directory = directory
        self._turns = turns
        self._page_state_bytes = page_state_bytes

    def page(
        self, *, owner: str | None, start: int, size: int, model: str
    ) -> tuple[list[ListedSession], int | None]:
        """Returns a page of sessions, and the start of the next page; None: that was the last.

        Args:
            owner: Whose sessions; None: everybody's.
            start: 0, or the start of a next page.
            size: Sessions on the page at most.
            model: Name of their model; empty: any.
        """
        listed = [loaded for loaded in self._models if not model or loaded.package.name == model]
        largest = max((loaded.arena.bytes_per_session // 2 for loaded in listed), default=0)
        size = min(size, max(1, self._page_state_bytes // max(1, largest)))
        number = None if owner is None else self._table.known_owner(owner)
        numbers = [loaded.number for loaded in listed]
        slots, following = self._scan.page(start, size, owner=number, models=numbers)
        return self._describe(slots), following

    def get(self, session_id: str, *, owner: str) -> ListedSession:
        """Describes one session. Raises ServiceError (SESSION_NOT_FOUND, SESSION_EXPIRED)."""
        (found,) = self._describe([self._directory.require(session_id, owner)])
        return found

    def _describe(self, slots: list[int]) -> list[ListedSession]:
        """Describes sessions as they are now, in the order of the slots."""
        at = np.array(slots, np.intp)
        models, indices = self._table.model[at], self._table.current_index[at]
        nonfinite = np.zeros(len(at), np.bool_)
        for number in np.unique(models).tolist():
            own = models == number
            nonfinite[own] = self._models[number].arena.nonfinite(indices[own])
        return [
            ListedSession(self._table.view(slot), self._directory.model_of(slot), wrong)
            for slot, wrong in zip(slots, nonfinite.tolist(), strict=True)
        ]

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
