"""Defines what a store does: keeps sessions beyond the process, for one writer among several.

A store is used by one thread, one call at a time; its calls wait for disk or network. Several processes may
use the same data: each is a writer. A session belongs to the writer that named or claimed it last, and its
epoch tells: a claim raises the epoch in the store, and rows of a lower epoch are left out of every later
write.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import StoredCheckpoint
from statewise.service.stores._block import Block

READ_BYTES = 64 * 2**20
"""Bytes of sessions that one call of a store returns."""


class StoreError(Exception):
    """The store cannot do what was asked; the message says why, and what helps."""


class StoreUnavailable(StoreError):  # noqa: N818 - named after the situation
    """The store is away, full or read-only. Nothing of the call has happened, or all of it; repeat it."""


class StoreDamaged(StoreError):  # noqa: N818 - named after the situation
    """Stored bytes fail their checksum, or are missing, and were not loaded; the message names file and
    place.

    Nothing of the call has happened. Repeated without the damaged sessions, it succeeds.

    Attributes:
        births: The damaged sessions of the call; empty where it is not known which they are.
    """

    def __init__(self, message: str, births: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.births = tuple(births)


class StoreLost(StoreDamaged):
    """The store has come back without the sessions that it had. `begin_anew` makes it work again."""


class StoreVersionError(StoreError):
    """Another version of statewise wrote the store; the message says what to do."""


@dataclass(frozen=True, slots=True)
class StoredSession:
    """One session as the store has it.

    Attributes:
        owner: Name of its owner.
        session_id: The owner's name for the session.
        model: Name of its model.
        version: Number of the version.
        digest: Digest of the version.
        row: A `ROW`; its epoch is the one of the claim where the session was claimed.
        state: uint8 [bytes of a session]: as in a `Group`.
        own: Whether the session belonged to this writer before the call: named or claimed by it last.
        checkpoints: Its named checkpoints, in the order in which they were made.
    """

    owner: str
    session_id: str
    model: str
    version: int
    digest: str
    row: np.void
    state: NDArray[np.uint8]
    own: bool = False
    checkpoints: Sequence[StoredCheckpoint] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a block.

    Attributes:
        moved: Births whose rows or checkpoints were left out, for another writer has claimed or replaced the
            session, or it has ended.
        stored_bytes: Bytes that were written.
        kept: Births that were to end and have not, for another writer has claimed the session.
    """

    moved: Sequence[int]
    stored_bytes: int
    kept: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """One session for a listing: without its state.

    Attributes:
        damage: Why the session cannot be loaded, if so. Its row then holds birth, handle, epoch and last use
        alone.
    """

    owner: str
    session_id: str
    model: str
    version: int
    row: np.void
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What an owner has in the store, or all owners together."""

    sessions: int
    stored_bytes: int


class Store(Protocol):
    """Keeps sessions. Every call raises StoreError; after StoreUnavailable it may be repeated.

    Calls that return sessions with their states return the first ones: as many as have `read_bytes` together,
    at least one. If the list is shorter than what was asked for, ask for the others by another call.
    """

    read_bytes: int
    """As `READ_BYTES`."""

    def write(self, block: Block) -> Written:
        """Writes a block, durably and atomically.

        A name that another birth has is given to the new birth; the session that had it has ended. A birth
        that has ended stays ended: later rows of it are left out (`moved`). A session that another writer has
        claimed is not ended. Writing the same block again changes nothing. A birth that the store knows under
        another name keeps that name, and its rows of this block are left out.

        A session and its checkpoints are written together: where its row is left out, so are they. Those of
        sessions without a row in the block are left out where a row would be. A checkpoint takes the place of
        one of the same name, and ends with its session.

        Raises:
            ValueError: A name comes without a row of its birth.
        """
        ...

    def find(self, owner: str, session_ids: Sequence[str]) -> list[int]:
        """Returns the births of an owner's sessions, 0 for an id that no session has."""
        ...

    def find_handles(self, handles: Sequence[int]) -> list[int]:
        """Returns the births of the sessions that have these handles, 0 for a handle that none has."""
        ...

    def claim(self, births: Sequence[int]) -> list[StoredSession | None]:
        """Makes this writer the one that these sessions belong to, durably, and returns their newest states.

        And their checkpoints, as the other calls that return sessions. The epoch of each session rises. None:
        there is no such session.
        """
        ...

    def read(self, births: Sequence[int]) -> list[StoredSession | None]:
        """Returns the newest states of sessions without claiming them."""
        ...

    def read_own(self, owner: str, handles: Sequence[int]) -> list[StoredSession | None]:
        """Returns the newest states of an owner's sessions by handle, if they belong to this writer.

        None: no session has the handle, or it is another owner's or another writer's. Nothing is written.
        """
        ...

    def end(self, owner: str, births: Sequence[int]) -> None:
        """Ends an owner's sessions, whichever writer they belong to; births of others are passed over.

        Another writer that has one in memory learns of it as of a takeover. Repeating changes nothing.
        """
        ...

    def list_sessions(self, owner: str | None, *, after: tuple[str, str], limit: int) -> list[Listed]:
        """Lists sessions ordered by owner and id, beginning after a pair of both; of one owner, or of all."""
        ...

    def usage(self, owner: str | None = None) -> Usage:
        """Returns how much an owner has, or all owners; exact, and cheap however many there are.

        Bytes are those of rows, of states, and of checkpoints.
        """
        ...

    def expire(self, *, used_before_ms: int, limit: int) -> list[int]:
        """Ends sessions that were last used before a time, at most `limit`; returns their births."""
        ...

    def tidy(self, *, seconds: float) -> bool:
        """Folds and removes what is due, for about that long. Returns whether more is due."""
        ...

    def begin_anew(self) -> None:
        """After StoreLost: begins an empty store, or joins the one that another writer has begun."""
        ...

    def close(self) -> None:
        """Gives files and connections back. Repeating does nothing."""
        ...
