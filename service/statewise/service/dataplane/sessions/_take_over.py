"""Gives new handles to the open sessions that a request means; never opens a session."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from statewise.service.base import RowFailure
from statewise.service.dataplane.sessions._session_directory import OpenedSession, SessionDirectory
from statewise.service.dataplane.sessions._session_turns import SessionTurns
from statewise.service.session_state import Durability, SessionTable
from statewise.wire import Reason


@dataclass(frozen=True, slots=True)
class ExpectedSessions:
    """Which sessions the rows of a request mean, and by which numbers their holder is known afterwards.

    Attributes:
        births: Birth of each row's session; 0, or empty: any.
        holders: Holder's number of each row's session: in rows with a birth the present one, else the new
            one. Empty: any holder, and none afterwards.
        durability: `Durability` of the sessions from then on; OF_SERVER: they keep theirs.
    """

    births: Sequence[int] = ()
    holders: Sequence[int] = ()
    durability: Durability = Durability.OF_SERVER

    def holder(self, row: int) -> int:
        """Returns the number of a row's holder after the request; 0: none."""
        return self.holders[row] if self.holders else 0

    def keeps_holder(self, row: int) -> bool:
        """Whether a row's session has the same holder after the request as before."""
        return bool(self.births and self.births[row])

    def refusal(self, table: SessionTable, row: int, slot: int, session_id: str) -> RowFailure | None:
        """Returns why a row does not mean the session that is open; None: it does."""
        birth = self.births[row] if self.births else 0
        if not birth:
            return None
        if birth != table.birth_of(slot):
            message = f"the session {session_id!r} that is open is another one than the request means"
        elif self.holders and self.holders[row] != table.holder_of(slot):
            message = f"session {session_id!r} was resumed elsewhere"
        else:
            return None
        return RowFailure(row, Reason.SESSION_MOVED, message)


ANY_SESSION = ExpectedSessions()
"""Any session that has the id."""


async def take_over(
    table: SessionTable,
    directory: SessionDirectory,
    turns: SessionTurns,
    existing: Mapping[int, int],
    session_ids: Sequence[str],
    owner: int,
    expected: ExpectedSessions,
) -> tuple[dict[int, OpenedSession], dict[int, RowFailure]]:
    """Gives new handles to sessions, each in its turn.

    Args:
        table: The sessions.
        directory: Describes sessions.
        turns: Orders operations.
        existing: Slots of the sessions by row, as they were found.
        session_ids: Ids of all rows.
        owner: Number of the owner.
        expected: Which sessions are meant.
    """
    taken: dict[int, OpenedSession] = {}
    failures: dict[int, RowFailure] = {}

    def take(row: int, slot: int) -> None:
        session_id = session_ids[row]
        if table.find(owner, session_id) != slot:
            failures[row] = directory.missing(row, owner, session_id)
        elif (failure := expected.refusal(table, row, slot, session_id)) is not None:
            failures[row] = failure
        else:
            table.take_over(slot, expected.holder(row))
            if expected.durability:
                table.choose_durability(slot, expected.durability)
            taken[row] = directory.describe(slot, created=False)

    await turns.run(existing, take)
    return taken, failures
