"""Reaches the sessions that an operation means: wakes them, makes room for others, waits for the store.

Knows no single operation. Owners are given by name or by number.
"""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Self, TypeVar

import numpy as np

from statewise.service.base import Handles, RowFailure, ServiceError, ServiceLimits
from statewise.service.dataplane.durability import moved_failure
from statewise.service.dataplane.sessions._session_directory import OpenedSession, SessionDirectory
from statewise.service.dataplane.sessions._session_turns import SessionTurns
from statewise.service.dataplane.sessions._stored_sessions import StoredSessions
from statewise.service.registry import LoadedModel, ModelRegistry
from statewise.service.session_state import Durability, SessionTable, SessionView
from statewise.wire import Reason

_T = TypeVar("_T")


class SessionAccess:
    """What operations on sessions share.

    Args:
        models: The served models.
        table: The sessions.
        directory: Creates, finds and ends sessions.
        turns: Orders operations.
        limits: Limits of every request.
        stored: Sessions of the store; None: there is no store.
    """

    def __init__(
        self,
        models: ModelRegistry,
        table: SessionTable,
        *,
        directory: SessionDirectory,
        turns: SessionTurns,
        limits: ServiceLimits,
        stored: StoredSessions | None = None,
    ) -> None:
        self._models = models
        self._table = table
        self._directory = directory
        self._turns = turns
        self._limits = limits
        self._stored = stored

    @classmethod
    def beside(cls, other: "SessionAccess") -> Self:
        """Makes operations on the same sessions."""
        return cls(
            other._models,
            other._table,
            directory=other._directory,
            turns=other._turns,
            limits=other._limits,
            stored=other._stored,
        )

    @property
    def needs_store(self) -> bool:
        """Whether changes are refused because the store is away."""
        return self._stored is not None and self._stored.refuses

    def refuse_changes(self) -> None:
        """Raises ServiceError (DRAINING, STORE_UNAVAILABLE) where sessions may neither begin nor change."""
        self._limits.refuse_when_draining()
        if self._stored is not None:
            self._stored.refuse_when_away()

    def _check_keep(self, keep: int) -> int:
        """Returns how many requests sessions keep, 1 where a request names none.

        Raises:
            ServiceError: BAD_REQUEST: more than may be kept.
        """
        most = self._limits.settings.session_keep
        if keep > most:
            raise ServiceError(Reason.BAD_REQUEST, f"keep: expected 1 to {most}, or 0 for 1; got {keep}")
        return keep or 1

    def _check_durability(self, durability: Durability) -> None:
        """Raises ServiceError (BAD_REQUEST) where no session can have it."""
        if durability is Durability.REPLY and self._stored is None:
            raise ServiceError(
                Reason.BAD_REQUEST, "durability = reply needs a session store, and this server has none"
            )

    async def _wake(
        self, owner: str, session_ids: Sequence[str], births: Sequence[int] = (), *, guesses: bool = False
    ) -> dict[str, ServiceError]:
        """Brings stored sessions into memory, before others are opened. Returns by id why one cannot be."""
        if self._stored is None:
            return {}
        await self._stored.usage.refresh(owner, len(session_ids))
        return await self._stored.wake(owner, session_ids, births, guesses=guesses)

    async def _wake_own(
        self, owner: str, session_ids: Sequence[str], births: Sequence[int] | None
    ) -> dict[str, ServiceError]:
        """Wakes sessions that an earlier try has created; others of these ids stay with whoever has them.

        Args:
            owner: Name of their owner.
            session_ids: Their ids.
            births: Births of those that are to be created, one an id, 0: none chosen; None: any may wake.

        Returns:
            By id why no session can be created: SESSION_EXISTS, or why the one of this birth cannot wake.
        """
        if births is None:
            return await self._wake(owner, session_ids)
        meant = [birth or secrets.randbits(64) or 1 for birth in births]  # no session has a fresh one
        failures = await self._wake(owner, session_ids, meant)
        for session_id, error in failures.items():
            if error.reason is Reason.SESSION_MOVED:
                message = f"session {session_id!r} is open already"
                failures[session_id] = ServiceError(Reason.SESSION_EXISTS, message)
        return failures

    async def _awake(self, handles: Handles, owner: int) -> Handles:
        """Returns the handles by which the table knows sessions, once they are in memory.

        Raises:
            ServiceError: STORE_UNAVAILABLE, and others by which they cannot wake now.
        """
        return handles if self._stored is None else await self._stored.handles.awake(handles, owner)

    async def _make_room(self, owner: int, model: LoadedModel, sessions: int, *, keep: int = 1) -> None:
        """Lets idle sessions leave memory for the store, so that others can be created."""
        if self._stored is not None:
            await self._stored.room.make(owner, sessions * model.kept.session_bytes(keep), sessions)

    def _holding(self, handles: Handles, owner: int) -> AbstractAsyncContextManager[Handles]:
        """Works like `_awake`; the sessions stay in memory, and later requests for them wait, meanwhile."""
        return nullcontext(handles) if self._stored is None else self._stored.handles.holding(handles, owner)

    def _keeping_named(self, owner: int, session_ids: Sequence[str]) -> AbstractContextManager[None]:
        """Keeps an owner's sessions of some ids in memory meanwhile, also those that others open."""
        return nullcontext() if self._stored is None else self._stored.room.keeping_named(owner, session_ids)

    async def _settle(self, done: dict[int, OpenedSession], *, told: bool = True) -> dict[int, RowFailure]:
        """Returns when a reply may be sent, and the failures of rows whose session another server has.

        Args:
            done: What the reply tells, by row; loses the rows that fail.
            told: Whether the store must have it before the reply in any case. It must have new holders: a
                server that knew an earlier one, and was killed, would refuse them.

        Raises:
            ServiceError: STORE_UNAVAILABLE.
        """
        if self._stored is None:
            return {}
        rows = list(done)
        handles = np.array([done[row].view.handle for row in rows], np.uint64)
        if not (told or self._stored.replies.wait_for(self._table.slots_of(handles))):
            return {}
        births = np.array([self._birth_now(done[row].view) for row in rows], np.uint64)
        moved = await self._stored.replies.settle(births)
        failures = {rows[at]: moved_failure(rows[at]) for at in np.flatnonzero(moved).tolist()}
        for row in failures:
            del done[row]
        return failures

    def _birth_now(self, view: SessionView) -> int:
        """Returns the birth of a session that a reply tells; 0: another server was found to have it by now.

        The store may have been written to between the operation and the wait for it.
        """
        if self._table.has_birth(view.birth):
            return view.birth
        why = self._table.void(0, view.handle, owner=self._table.known_owner(view.owner)).reason
        return 0 if why is Reason.SESSION_MOVED else view.birth

    def _require_serving(self, model: LoadedModel) -> None:
        """Raises ServiceError (MODEL_NOT_FOUND) where a version ended while a request was under way."""
        if not self._models.serves(model):
            name, version = model.key
            raise ServiceError(
                Reason.MODEL_NOT_FOUND, f"model {name!r} version {version} was unloaded during the request"
            )

    def version_of(self, handles: Handles, owner: int) -> LoadedModel | None:
        """Finds the version of the sessions of an owner's valid handles; None: no handle is valid.

        Raises:
            ServiceError: BAD_REQUEST: a handle stands twice, or the sessions are of several versions.
        """
        if len(handles) == 1:
            number = self._table.model_of_handle(int(handles[0]), owner=owner)
            return None if number is None else self._models[number]
        slots = self._table.slots_of(handles)
        if self._table.has_repeats(slots) and len(np.unique(handles)) != len(handles):
            raise ServiceError(Reason.BAD_REQUEST, "a handle stands twice; a frame advances a session once")
        numbers = self._table.models_of_handles(handles, slots, owner=owner)
        if len(numbers) == 0:
            return None
        if (numbers != numbers[0]).any():
            raise ServiceError(
                Reason.BAD_REQUEST, "the sessions are of different models or versions; send a frame for each"
            )
        return self._models[int(numbers[0])]

    def _one_name_a_row(self, names: Sequence[str], rows: int) -> Sequence[str]:
        """Returns a name for each row, where a request gives one for all rows, or one each.

        Raises:
            ServiceError: BAD_REQUEST.
        """
        if len(names) not in (1, rows):
            raise ServiceError(
                Reason.BAD_REQUEST, f"expected 1 or {rows} names of checkpoints; got {len(names)}"
            )
        return list(names) * rows if len(names) == 1 else names

    def one_a_row(self, births: Sequence[int], session_ids: Sequence[str]) -> Sequence[int]:
        """Returns a birth for each row, 0 where the request names none; checks the ids, too."""
        self._limits.check_ids(session_ids)
        births = births or [0] * len(session_ids)
        self._limits.check_columns(len(births), len(session_ids))
        return births


def in_order(by_row: Mapping[int, _T]) -> list[_T]:
    """Returns what belongs to rows, in the order of the rows."""
    return [by_row[row] for row in sorted(by_row)]


def row_of(failure: RowFailure) -> int:
    """Returns a failure's row, to sort by."""
    return failure.row
