"""Locks sessions for a generation: validates them, marks them busy, commits their new states at the end.

From its turn until its release, nothing but its own generation touches a lease's sessions. A lease abandoned
before its turn locks nothing.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, Barrier, Handles, RowFailure, Slots
from statewise.service.engine import Sampling
from statewise.service.registry import LoadedModel
from statewise.service.scheduling import GenerationJob
from statewise.service.session_state import SessionTable, digest_rows
from statewise.wire import Reason

_GENERATE = 0x47454E4552415445
"""Part of every generation's digest, so that it differs from that of a step with the same bytes as input."""

FindLacking = Callable[[list[Array], NDArray[np.uint64]], NDArray[np.bool_]]
"""Tells from states and positions of rows which of them have nothing to generate from, bool [rows]."""


@dataclass(slots=True)
class SessionLease:
    """The rows of a request and, once it is their turn, the sessions that are locked for them.

    Attributes:
        handles: uint64 [all rows].
        positions: Start positions, uint64 [all rows].
        owner: Number of the caller's owner.
        steps: Most values of each row, uint32 [all rows].
        sampling: How values are drawn, [all rows].
        rows: Rows that may generate.
        slots: Their sessions, [rows].
        retry: Rows that repeat their session's last request, bool [rows].
        digests: Digests of their requests, [rows].
        state: States that they start from, [rows, ...] for each state.
        failures: Failures of all other rows, by row.
        abandoned: Whether the caller gave the request up.
    """

    handles: Handles
    positions: NDArray[np.uint64]
    owner: int
    steps: NDArray[np.uint32]
    sampling: Sampling
    rows: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    slots: Slots = field(default_factory=lambda: np.empty(0, np.intp))
    retry: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    digests: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    state: list[Array] = field(default_factory=list)
    failures: dict[int, RowFailure] = field(default_factory=dict)
    abandoned: bool = False


async def acquire_lease(
    lease: SessionLease, model: LoadedModel, table: SessionTable, *, lacking: FindLacking
) -> None:
    """Locks the sessions after every earlier request for them has run, and fills the lease.

    Args:
        lease: The request.
        model: The sessions' version.
        table: The sessions.
        lacking: Finds the rows that the model cannot generate from.
    """
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take() -> None:
        # The request may have been cancelled in this turn of the loop, before its task could react.
        if lease.abandoned or turn.done():
            return
        try:
            _grant(lease, model, table, lacking)
            table.busy[lease.slots] = True
        except Exception as error:
            turn.set_exception(error)
        else:
            turn.set_result(None)

    valid = table.valid_slots(lease.handles, owner=lease.owner)
    model.scheduler.submit_barrier(Barrier(valid, take))
    await turn


def commit_lease(
    lease: SessionLease,
    model: LoadedModel,
    table: SessionTable,
    job: GenerationJob,
    start: NDArray[np.uint64],
) -> None:
    """Writes new states and positions, but not of retries, failed rows and rows that consumed nothing.

    Args:
        lease: Acquired, not released yet.
        model: The sessions' version.
        table: The sessions.
        job: The finished generation of the lease's rows.
        start: Positions that the rows generated from, after a begin token.
    """
    moved = ~lease.retry
    moved[list(job.failed)] = False
    steps = start - lease.positions[lease.rows] + job.consumed
    moved &= steps > 0
    slots = lease.slots[moved]
    cells = table.read(slots)
    state = [array[moved] for array in job.state]
    model.kept.commit(slots, cells, state, steps[moved], lease.digests[moved])


def _grant(lease: SessionLease, model: LoadedModel, table: SessionTable, lacking: FindLacking) -> None:
    """Separates rows that may generate from failures, and reads the states of rows that may generate."""
    handles, positions = lease.handles, lease.positions
    slots = table.slots_of(handles)
    requests = [
        np.full(len(handles), _GENERATE, np.uint64),
        lease.steps.astype(np.uint64),
        *lease.sampling.columns,
    ]
    digests = digest_rows([np.stack(requests, axis=1)], per_step=[False], steps=None)
    # A request does not say how many time steps its earlier run consumed; equal digests imply equal numbers.
    consumed = table.positions_of(slots) - positions
    cells = table.read(slots)
    verdicts = table.classify(cells, handles, lease.owner, positions, consumed, digests)
    good = np.ones(len(handles), np.bool_) if verdicts.good is None else verdicts.good.copy()
    for row in np.flatnonzero(~good).tolist():
        lease.failures[row] = table.explain(row, int(handles[row]), int(positions[row]), owner=lease.owner)
    rows = np.flatnonzero(good)
    retry = np.zeros(len(handles), np.bool_) if verdicts.retry is None else verdicts.retry
    state = model.arena.gather(table.arena_indices(cells[rows], retry[rows]))
    empty = lacking(state, positions[rows])
    if empty.any():
        for row in rows[empty].tolist():
            lease.failures[row] = RowFailure(
                row,
                Reason.WRONG_CALL,
                "the session has consumed nothing it could go on from: step it first",
            )
        rows, state = rows[~empty], [array[~empty] for array in state]
    lease.rows, lease.slots, lease.digests, lease.retry = rows, slots[rows], digests[rows], retry[rows]
    lease.state = state
    model.scheduler.statistics.retried_rows += int(np.count_nonzero(lease.retry))
