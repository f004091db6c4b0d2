"""Runs operations on sessions in turn: each after every earlier request for the same sessions has run.

Decides nothing about the operations.
"""

import asyncio
from collections.abc import Callable, Mapping

import numpy as np

from statewise.service.base import Barrier, Handles, RowFailure, ServiceError
from statewise.service.registry import LoadedModel, ModelRegistry
from statewise.service.session_state import SessionTable

SessionAction = Callable[[int, int], None]
"""An operation on one session: takes its row in the request and its slot."""


class SessionTurns:
    """Barriers in the schedulers' queues.

    Args:
        models: The served models.
        table: The sessions.
    """

    def __init__(self, models: ModelRegistry, table: SessionTable) -> None:
        self._models = models
        self._table = table

    async def run(self, slots: Mapping[int, int], action: SessionAction) -> None:
        """Runs an operation on sessions, given by row; returns when it has run on all of them."""
        by_model: dict[int, list[tuple[int, int]]] = {}
        for row, slot in slots.items():
            by_model.setdefault(self._table.model_of(slot), []).append((row, slot))
        await asyncio.gather(
            *(self._submit(self._models[number], pairs, action) for number, pairs in by_model.items())
        )

    async def run_valid(self, handles: Handles, action: SessionAction, *, owner: int) -> list[RowFailure]:
        """Runs an operation on the sessions of valid handles; gives the failures of the other handles.

        Args:
            handles: uint64 [rows].
            action: May refuse a row by ServiceError.
            owner: Number of the owner.
        """
        failures: dict[int, RowFailure] = {}
        valid: dict[int, int] = {}
        for row, slot in enumerate(self._table.slots_of(handles).tolist()):
            failure = self._table.refusal(row, int(handles[row]), owner=owner)
            if failure is None:
                valid[row] = slot
            else:
                failures[row] = failure

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

        await self.run(valid, act)
        return [failures[row] for row in sorted(failures)]

    def _submit(
        self, model: LoadedModel, pairs: list[tuple[int, int]], action: SessionAction
    ) -> asyncio.Future[None]:
        """Submits at once, so that later requests come later; the future ends with the operation."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def act() -> None:
            try:
                for row, slot in pairs:
                    action(row, slot)
            except Exception as error:
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(None)

        model.scheduler.submit_barrier(Barrier(np.array([slot for _, slot in pairs], np.intp), act))
        return done
