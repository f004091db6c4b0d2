"""Awaits jobs: submits a job to a scheduler and returns when it has ended.

The jobs of one request share a cancellation token; a cancelled job ends at its next slice.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, Indices, RaggedColumns, ServiceError
from statewise.service.inputs import buckets_of_like_length
from statewise.service.scheduling import Job, Scheduler, SequenceRequest, SequenceResults
from statewise.wire import ModelSpec

_Job = TypeVar("_Job", bound=Job)
_Work = TypeVar("_Work")


@dataclass(slots=True)
class CancellationToken:
    """Deadline and cancellation of a request in progress.

    Attributes:
        deadline_s: On the schedulers' clock; None: none.
        cancelled: Whether the caller gave the request up.
    """

    deadline_s: float | None = None
    cancelled: bool = False

    def is_cancelled(self) -> bool:
        """Returns whether the caller cancelled the request; jobs check this between slices."""
        return self.cancelled


async def run_job(scheduler: Scheduler, make: Callable[..., _Job], cancellation: CancellationToken) -> _Job:
    """Runs a job to its end. Cancelling the caller cancels the whole request, and the job ends soon.

    Returns or raises only when the job has ended: until then it takes the capacity reserved for it.

    Args:
        scheduler: Runs the job; capacity for its time steps is reserved there.
        make: Makes the job, given `done`, `is_cancelled` and `deadline_s`.
        cancellation: The request's.

    Raises:
        ServiceError: the job failed as a whole, or was cancelled.
    """
    ended: _Job = await _ended(scheduler, make, partial(scheduler.submit_job, reserved=True), cancellation)
    return ended


async def run_sequences(
    scheduler: Scheduler, make: Callable[..., SequenceRequest], cancellation: CancellationToken
) -> SequenceResults:
    """Runs sequences to their end, as `run_job`."""
    submit: Any = partial(scheduler.submit_sequences, reserved=True)
    ended: SequenceResults = await _ended(scheduler, make, submit, cancellation)
    return ended


async def _ended(
    scheduler: Scheduler,
    make: Callable[..., _Work],
    submit: Callable[[_Work], None],
    cancellation: CancellationToken,
) -> Any:
    """Submits work, and returns what its `done` was given."""
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(results: Any, failure: ServiceError | None) -> None:
        if ended.done():
            return
        if failure is None:
            ended.set_result(results)
        else:
            ended.set_exception(failure)

    submit(make(done=done, is_cancelled=cancellation.is_cancelled, deadline_s=cancellation.deadline_s))
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        cancellation.cancelled = True
        scheduler.drop_abandoned_soon()
        await asyncio.wait([ended])
        if not ended.cancelled():
            ended.exception()  # nobody else looks at it
        raise


async def consume(
    scheduler: Scheduler,
    spec: ModelSpec,
    columns: RaggedColumns,
    rows: Indices,
    state: Sequence[Array],
    cancellation: CancellationToken,
    *,
    owner: int,
) -> tuple[list[Array], list[Array], NDArray[np.bool_]]:
    """Runs sequences from given states.

    Args:
        scheduler: Runs the sequences.
        spec: The spec of its engine.
        columns: Inputs of all rows of a request, with lengths.
        rows: Rows to run, each at least one time step long.
        state: [len(rows), ...] for each state.
        cancellation: The request's.
        owner: Number of the caller's owner.

    Returns:
        Outputs that are not per step, [len(rows), ...]; the states afterwards; which rows did not fail.

    Raises:
        ServiceError: as `run_job`.
    """
    last: list[Array] = [
        np.zeros((len(rows), *entry.shape), entry.dtype) for entry in spec.outputs if not entry.per_step
    ]
    after = [array.copy() for array in state]
    good = np.ones(len(rows), np.bool_)

    async def run_bucket(members: Indices) -> None:
        make: Any = partial(
            SequenceRequest,
            columns,
            rows[members],
            state=[array[members] for array in state],
            owner=owner,
            keeps_outputs=False,
        )
        ended = await run_sequences(scheduler, make, cancellation)
        outputs, successors, succeeded = ended.results()
        kept = [
            array for array, entry in zip(outputs.arrays, spec.outputs, strict=True) if not entry.per_step
        ]
        for whole, part in zip([*last, *after], [*kept, *successors], strict=True):
            whole[members] = part
        good[members] = succeeded

    lengths = np.asarray(columns.lengths, np.uint32)[rows]
    buckets = buckets_of_like_length(np.arange(len(rows)), lengths)
    for outcome in await asyncio.gather(*map(run_bucket, buckets), return_exceptions=True):
        if outcome is not None:
            raise outcome
    return last, after, good
