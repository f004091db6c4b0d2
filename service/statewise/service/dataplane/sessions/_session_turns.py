"""Runs operations on sessions in turn: each after every earlier request for the same sessions has run.

An operation on many sessions runs in portions, and the event loop turns between them. Its sessions are locked
until their portion, so no later request for them overtakes it. Decides nothing about the operations.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Self, TypeVar

import numpy as np

from statewise.service.base import Barrier, Handles, RowFailure, ServiceError
from statewise.service.registry import LoadedModel, ModelRegistry
from statewise.service.session_state import SessionTable

SessionAction = Callable[[int, int], None]
"""An operation on one session: takes its row in the request and its slot."""

PORTION_ROWS = 128
"""Rows of an operation between two turns of the event loop: one or two milliseconds of work."""
CHECKPOINT_ROWS = 8
"""The same, of an operation on all named checkpoints of a session: there may be 64."""
_PORTION_BYTES = 2 * 2**20
"""Bytes of state that such a portion copies at most, unless one row has more."""

_Row = TypeVar("_Row")
_Pairs = Sequence[tuple[int, int]]
"""Rows of a request, with their slots."""


class Portions(Generic[_Row]):
    """Iterates over rows in portions, and lets the event loop turn between two of them.

    Args:
        rows: The rows.
        size: Rows of a portion at most.
    """

    def __init__(self, rows: Sequence[_Row], size: int = PORTION_ROWS) -> None:
        self._rows = rows
        self._size = size
        self._begin = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[_Row]:
        begin, self._begin = self._begin, self._begin + self._size
        if begin >= len(self._rows):
            raise StopAsyncIteration
        if begin:
            await asyncio.sleep(0)
        return self._rows[begin : self._begin]


class SessionTurns:
    """Barriers in the schedulers' queues.

    Args:
        models: The served models.
        table: The sessions.
    """

    def __init__(self, models: ModelRegistry, table: SessionTable) -> None:
        self._models = models
        self._table = table

    async def run(
        self, slots: Mapping[int, int], action: SessionAction, *, most_rows: int = PORTION_ROWS
    ) -> None:
        """Runs an operation on sessions, given by row; returns when it has run on all of them.

        Args:
            slots: The sessions by row.
            action: The operation.
            most_rows: Rows between two turns of the event loop at most.
        """
        by_model: dict[int, list[tuple[int, int]]] = {}
        for pair in slots.items():
            by_model.setdefault(self._table.model_of(pair[1]), []).append(pair)
        # All are submitted before the first one is awaited, so that later requests come later.
        turns = [
            _Turn(self._models[number], self._table, pairs, action, most_rows)
            for number, pairs in by_model.items()
        ]
        await asyncio.gather(*(turn.end() for turn in turns))

    async def run_valid(
        self, handles: Handles, action: SessionAction, *, owner: int, most_rows: int = PORTION_ROWS
    ) -> list[RowFailure]:
        """Runs an operation on the sessions of valid handles; gives the failures of the other handles.

        Args:
            handles: uint64 [rows].
            action: May refuse a row by ServiceError.
            owner: Number of the owner.
            most_rows: See `run`.
        """
        failures: dict[int, RowFailure] = {}
        slots = self._table.slots_of(handles)
        valid = self._table.are_valid(handles, slots, owner=owner)
        rows = np.flatnonzero(valid)

        def act(row: int, slot: int) -> None:
            # An earlier request may have ended the session, or voided the handle.
            failure = self._table.refusal(row, int(handles[row]), owner=owner)
            try:
                if failure is None:
                    self._table.touch(slot)
                    action(row, slot)
            except ServiceError as error:
                failure = RowFailure(row, error.reason, error.message)
            if failure is not None:
                failures[row] = failure

        by_row = dict(zip(rows.tolist(), slots[rows].tolist(), strict=True))
        await self.run(by_row, act, most_rows=most_rows)
        async for portion in Portions(np.flatnonzero(~valid).tolist()):
            for row in portion:
                failures[row] = self._table.void(row, int(handles[row]), owner=owner)
        return [failures[row] for row in sorted(failures)]


class _Turn:
    """The sessions of one version in an operation, which wait for their turn from the beginning.

    Args:
        model: The version.
        table: The sessions.
        pairs: The rows; a slot may stand in several.
        action: The operation.
        most_rows: Rows between two turns of the event loop at most.
    """

    def __init__(
        self,
        model: LoadedModel,
        table: SessionTable,
        pairs: _Pairs,
        action: SessionAction,
        most_rows: int,
    ) -> None:
        self._model = model
        self._table = table
        self._pairs = pairs
        self._action = action
        self._come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        row_bytes = max(1, model.arena.bytes_per_session)
        self._portion_rows = max(1, min(most_rows, _PORTION_BYTES // row_bytes))
        self._slots = np.array([slot for _, slot in pairs], np.intp)
        self._locked: set[int] = set()
        whole = len(pairs) <= self._portion_rows
        model.scheduler.submit_barrier(Barrier(self._slots, self._run_whole if whole else self._lock))

    def _run_whole(self) -> None:
        try:
            self._act(self._pairs)
        except Exception as error:
            if not self._come.done():
                self._come.set_exception(error)
        else:
            if not self._come.done():
                self._come.set_result(None)

    def _lock(self) -> None:
        if self._come.done():  # the caller has left
            return
        self._locked = set(self._slots.tolist())
        self._table.busy[self._slots] = True
        self._come.set_result(None)

    async def end(self) -> None:
        """Returns when the operation has run; if the caller leaves, the portions that are left do not run."""
        try:
            await self._come
            if self._locked:
                await self._run_in_portions()
        finally:
            self._unlock(self._locked)

    async def _run_in_portions(self) -> None:
        last = {slot: row for row, slot in self._pairs}
        async for portion in Portions(self._pairs, self._portion_rows):
            # Nothing else runs before the end of the portion, and a session that it ends must not be locked.
            self._unlock({slot for row, slot in portion if last[slot] == row})
            self._act(portion)

    def _unlock(self, slots: set[int]) -> None:
        if slots:
            self._model.scheduler.release_sessions(np.fromiter(slots, np.intp, len(slots)))
            self._locked = self._locked - slots

    def _act(self, pairs: _Pairs) -> None:
        for row, slot in pairs:
            self._action(row, slot)
