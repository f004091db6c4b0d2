"""Holds replies back until the store has what they tell; never tells what the store has left out.

A row whose session another server has taken over meanwhile ends as SESSION_MOVED: nothing of it is stored.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import (
    Handles,
    RaggedColumns,
    RowFailure,
    ServiceError,
    Slots,
    StepResult,
    store_unavailable,
)
from statewise.service.dataplane.durability._checkpoints import Checkpoints
from statewise.service.dataplane.durability._store_waits import StoreWait
from statewise.service.session_state import Durability, SessionTable
from statewise.wire import Reason, TensorSpec

Reply = Callable[[StepResult | ServiceError], None]


class StoredReplies:
    """Replies about sessions of one store.

    Args:
        table: The sessions in memory.
        checkpoints: Write what changes.
        wait: Whether replies wait about sessions that were opened without a durability of their own.
    """

    def __init__(self, table: SessionTable, checkpoints: Checkpoints, *, wait: bool) -> None:
        self._table = table
        self._checkpoints = checkpoints
        self._wait = wait

    def wait_for(self, slots: Slots) -> bool:
        """Whether a reply about these sessions waits until the store has what it tells: one of them asks."""
        if not self._table.durability_was_chosen:
            return self._wait
        durabilities = self._table.durabilities_of(slots)
        asks = durabilities == Durability.REPLY
        if self._wait:
            asks |= durabilities == Durability.OF_SERVER
        return bool(asks.any())

    def held(
        self,
        reply: Reply,
        handles: Handles,
        positions: NDArray[np.uint64],
        steps: NDArray[np.uint32] | None,
        outputs: Sequence[TensorSpec],
    ) -> Reply:
        """Returns a function that gives a reply to a step when it may be sent.

        Args:
            reply: Takes the result.
            handles: Of the rows.
            positions: Start positions of the rows.
            steps: Time steps of each row; None: 1 each.
            outputs: The model's outputs.
        """
        if not self.wait_for(self._table.slots_of(handles)):
            return reply

        def hold(result: StepResult | ServiceError) -> None:
            if isinstance(result, ServiceError) or len(result.failures) == len(handles):
                reply(result)
                return
            rows = np.arange(len(handles))
            if result.failures:
                rows = np.delete(rows, [failure.row for failure in result.failures])
            lengths = None if steps is None else steps[rows]
            durable = positions[rows] + np.asarray(1 if lengths is None else lengths, np.uint64)
            done = replace(result, durable_positions=durable)

            def give(moved: NDArray[np.bool_]) -> None:
                reply(_without(done, rows, lengths, moved, outputs) if moved.any() else done)

            births = self._table.births_of(self._table.slots_of(handles[rows]))
            self._checkpoints.when_stored(StoreWait(births, give))

        return hold

    async def settle_rows(
        self, slots: Slots, positions: NDArray[np.uint64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        """Returns when a reply about changed sessions may be sent.

        Args:
            slots: The sessions.
            positions: Their positions, which the reply tells.

        Returns:
            Which of them another server has, and their durable positions.

        Raises:
            ServiceError: STORE_UNAVAILABLE.
        """
        births = self._table.births_of(slots)
        if self.wait_for(slots):
            return await self.settle(births), positions
        return births == 0, self._table.durable_positions(slots)

    def noting_moved(self) -> AbstractContextManager[list[NDArray[np.uint64]]]:
        """Notes meanwhile which sessions another server turns out to have, in the list that it gives.

        For operations that take long: a tick may write what they did before they wait for the store.
        """
        return self._checkpoints.waits.noting_moved()

    async def settle(self, births: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Returns when the store has what has happened so far.

        Args:
            births: Sessions that the reply tells of; 0: one that another server is known to have.

        Returns:
            Which of them another server has, bool [births]: nothing of theirs was stored.

        Raises:
            ServiceError: STORE_UNAVAILABLE.
        """
        moved = await self._checkpoints.settle(births)
        if moved is None:
            raise store_unavailable("the session store does not answer")
        return moved


def moved_failure(row: int) -> RowFailure:
    """Returns the failure of a row whose session another server has."""
    message = "another server has taken the session over; nothing of this request is kept"
    return RowFailure(row, Reason.SESSION_MOVED, message)


def _without(
    result: StepResult,
    rows: NDArray[np.intp],
    lengths: NDArray[np.uint32] | None,
    moved: NDArray[np.bool_],
    outputs: Sequence[TensorSpec],
) -> StepResult:
    """Takes rows out of a result.

    Args:
        result: The result.
        rows: Rows of the request that it has outputs of.
        lengths: Their time steps; None: 1 each.
        moved: Which of them to take out.
        outputs: The model's outputs.
    """
    kept = np.flatnonzero(~moved)
    arrays: Mapping[str, NDArray[np.generic]] = result.outputs
    columns = RaggedColumns(outputs, [arrays[spec.name] for spec in outputs], lengths).take(kept)
    failures = [*result.failures, *(moved_failure(row) for row in rows[moved].tolist())]
    durable = result.durable_positions
    return StepResult(
        columns.named,
        sorted(failures, key=lambda failure: failure.row),
        None if durable is None else durable[kept],
    )
