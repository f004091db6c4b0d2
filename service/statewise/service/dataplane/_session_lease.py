"""Sessions while they generate: judged and taken in their turn, and moved on when all is done.

Not the generating. From its turn until it is released a claim's sessions are busy, so nothing else touches
them; a claim withdrawn before its turn takes nothing.
"""

import asyncio
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
"""Tells the digest of a generation from that of a step whose input has the same bytes."""


@dataclass(slots=True)
class SessionLease:
    """Rows of a request, and once their turn has come what they start from.

    Attributes:
        handles: uint64 [all rows].
        positions: Start positions, uint64 [all rows].
        owner: Number of the owner who asks.
        steps: Values at most, uint32 [all rows].
        sampling: How they are drawn, [all rows].
        rows: Those that may generate.
        slots: Their sessions.
        retry: Which of them repeat their session's last request, bool.
        digests: Of what they ask for.
        state: They start from, [rows, ...] for each state.
        failures: Every other row.
        withdrawn: Nobody waits for it any more.
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
    withdrawn: bool = False


async def acquire_lease(
    lease: SessionLease, model: LoadedModel, table: SessionTable, *, beginning: bool
) -> None:
    """Takes the sessions once nothing asked of them before is waiting or running.

    Args:
        lease: What is asked for; gets what was found.
        model: Their version.
        table: The sessions.
        beginning: Whether the model can generate for a session that has consumed nothing.
    """
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take() -> None:
        # Cancelled in this very turn of the loop, whoever waits has not been told yet.
        if lease.withdrawn or turn.done():
            return
        try:
            _classify(lease, model, table, beginning=beginning)
            table.busy[lease.slots] = True
        except Exception as error:
            turn.set_exception(error)
        else:
            turn.set_result(None)

    slots = table.slots_of(lease.handles)
    held = slots[table.are_valid(lease.handles, slots, owner=lease.owner)]
    model.scheduler.submit_barrier(Barrier(held, take))
    await turn


def commit_lease(
    lease: SessionLease,
    model: LoadedModel,
    table: SessionTable,
    job: GenerationJob,
    start: NDArray[np.uint64],
) -> None:
    """Moves the sessions on to where their rows have come. Retries, failures and rows that stand stay.

    Args:
        lease: Taken, and not released yet.
        model: Their version.
        table: The sessions.
        job: What the rows did.
        start: Positions that they generated from.
    """
    moved = ~lease.retry
    moved[list(job.failed)] = False
    steps = start - lease.positions[lease.rows] + job.consumed
    moved &= steps > 0
    slots = lease.slots[moved]
    cells = table.read(slots)
    model.arena.scatter(table.next_arena_indices(cells), [array[moved] for array in job.state])
    table.advance(slots, cells, steps[moved], lease.digests[moved])


def _classify(lease: SessionLease, model: LoadedModel, table: SessionTable, *, beginning: bool) -> None:
    handles, positions = lease.handles, lease.positions
    slots = table.slots_of(handles)
    asked = [
        np.full(len(handles), _GENERATE, np.uint64),
        lease.steps.astype(np.uint64),
        *lease.sampling.columns,
    ]
    digests = digest_rows([np.stack(asked, axis=1)], per_step=[False], steps=None)
    # How far a repeated generation came is not asked for: its digest tells it.
    came = table.positions_of(slots) - positions
    cells = table.read(slots)
    verdicts = table.classify(cells, handles, lease.owner, positions, came, digests)
    good = np.ones(len(handles), np.bool_) if verdicts.good is None else verdicts.good.copy()
    for row in np.flatnonzero(~good).tolist():
        lease.failures[row] = table.explain(row, int(handles[row]), int(positions[row]), owner=lease.owner)
    if not beginning:
        unborn = good & (positions == 0)
        for row in np.flatnonzero(unborn).tolist():
            lease.failures[row] = RowFailure(
                row,
                Reason.WRONG_CALL,
                "the session has consumed nothing it could go on from: step it first",
            )
        good &= ~unborn
    rows = np.flatnonzero(good)
    retry = np.zeros(len(handles), np.bool_) if verdicts.retry is None else verdicts.retry
    lease.rows, lease.slots, lease.digests, lease.retry = rows, slots[rows], digests[rows], retry[rows]
    lease.state = model.arena.gather(table.arena_indices(cells[rows], lease.retry))
    model.scheduler.statistics.retried_rows += int(np.count_nonzero(lease.retry))
