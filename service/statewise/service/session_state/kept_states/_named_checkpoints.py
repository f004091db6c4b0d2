"""Keeps states of sessions under names, each as packed bytes that never change.

A session without a checkpoint costs nothing. Checkpoints end with their session, and leave memory with it.
"""

from collections.abc import Sequence

from statewise.service.base import ServiceError, StoredCheckpoint
from statewise.service.session_state import SessionTable
from statewise.wire import Reason


class NamedCheckpoints:
    """Checkpoints of the sessions of one model version.

    Args:
        table: Holds the sessions; learns what a store has to know.
    """

    def __init__(self, table: SessionTable) -> None:
        self._table = table
        self._of_row: dict[int, dict[str, StoredCheckpoint]] = {}
        self._bytes_of_row: dict[int, int] = {}
        self.used_bytes = 0
        """Bytes of all of them."""

    def of(self, slot: int) -> Sequence[StoredCheckpoint]:
        """Returns the checkpoints of a session, in the order in which they were made."""
        return list(self._of_row.get(self._row(slot), {}).values())

    def find(self, slot: int, name: str) -> StoredCheckpoint | None:
        """Returns a checkpoint of a session; None: it has none of that name."""
        return self._of_row.get(self._row(slot), {}).get(name)

    def require(self, slot: int, name: str) -> StoredCheckpoint:
        """Returns a checkpoint of a session. Raises ServiceError (CHECKPOINT_NOT_FOUND)."""
        found = self.find(slot, name)
        if found is None:
            raise ServiceError(Reason.CHECKPOINT_NOT_FOUND, f"the session has no checkpoint {name[:160]!r}")
        return found

    def bytes_of(self, slot: int) -> int:
        """Returns the bytes of a session's checkpoints."""
        return self._bytes_of_row.get(self._row(slot), 0)

    def add(self, slot: int, checkpoint: StoredCheckpoint, *, stored: bool = False) -> None:
        """Adds a checkpoint to a session that has none of its name.

        Args:
            slot: The session.
            checkpoint: The checkpoint, of the session's birth.
            stored: Whether the store knows it already.
        """
        row = self._row(slot)
        self._of_row.setdefault(row, {})[checkpoint.name] = checkpoint
        self._count(row, checkpoint.size_bytes)
        if self._table.changed is not None and not stored:
            self._table.changed.note_checkpoint(slot, checkpoint)

    def drop(self, slot: int, name: str) -> StoredCheckpoint | None:
        """Drops a checkpoint of a session, and returns it; None: it has none of that name."""
        row = self._row(slot)
        dropped = self._of_row.get(row, {}).pop(name, None)
        if dropped is None:
            return None
        self._count(row, -dropped.size_bytes)
        if not self._of_row[row]:
            del self._of_row[row], self._bytes_of_row[row]
        if self._table.changed is not None:
            self._table.changed.checkpoints.note_dropped(dropped.birth, name)
            self._table.changed.note_one(slot)
        return dropped

    def free(self, row: int) -> None:
        """Forgets the checkpoints of a row of the arena: its session has left it."""
        self.used_bytes -= self._bytes_of_row.pop(row, 0)
        self._of_row.pop(row, None)

    def _count(self, row: int, more_bytes: int) -> None:
        self._bytes_of_row[row] = self._bytes_of_row.get(row, 0) + more_bytes
        self.used_bytes += more_bytes

    def _row(self, slot: int) -> int:
        return self._table.arena_index(slot) >> 1
