"""Work that comes in stages: reading, then generating, each a job of a scheduler, awaited.

Jobs of one request share a ticket: whoever gives the request up sets it, and they end at their next piece.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, RaggedColumns, ServiceError
from statewise.service.inputs import TokenizedSequences
from statewise.service.scheduling import Job, Scheduler, SequenceJob, buckets_of_like_length
from statewise.wire import ModelSpec

_W = TypeVar("_W", bound=Job)


@dataclass(slots=True)
class CancellationToken:
    """Stands for a request that is under way.

    Attributes:
        deadline_s: On the schedulers' clock; None: none.
        cancelled: Set by whoever gives the request up.
    """

    deadline_s: float | None = None
    cancelled: bool = False

    def is_cancelled(self) -> bool:
        """Asked between pieces."""
        return self.cancelled


async def run(scheduler: Scheduler, make: Callable[..., _W], cancellation: CancellationToken) -> _W:
    """Runs a job to its end.

    Args:
        scheduler: Runs it; its time steps are held there already.
        make: Makes it, given `done`, `is_cancelled` and `deadline_s`.
        cancellation: Of the request.

    Raises:
        ServiceError: the job as a whole failed, or was given up.
    """
    ended: asyncio.Future[_W] = asyncio.get_running_loop().create_future()

    def done(job: _W, failure: ServiceError | None) -> None:
        if ended.done():
            return
        if failure is None:
            ended.set_result(job)
        else:
            ended.set_exception(failure)

    job = make(done=done, is_cancelled=cancellation.is_cancelled, deadline_s=cancellation.deadline_s)
    scheduler.submit_job(job, reserved=True)
    return await ended


async def read(
    scheduler: Scheduler,
    spec: ModelSpec,
    sequences: TokenizedSequences,
    rows: NDArray[np.intp],
    state: Sequence[Array],
    cancellation: CancellationToken,
) -> tuple[list[Array], list[Array], NDArray[np.bool_]]:
    """Reads sequences from given states.

    Args:
        scheduler: Runs them.
        spec: Of its engine.
        sequences: Of all rows of a request.
        rows: Which of them to read, each at least one time step long.
        state: [len(rows), ...] for each state.
        cancellation: Of the request.

    Returns:
        Outputs that are none per step, [len(rows), ...]; the states after; and which rows did not fail.

    Raises:
        ServiceError: as `run`.
    """
    lengths = sequences.lengths[rows]
    last: list[Array] = [
        np.zeros((len(rows), *entry.shape), entry.dtype) for entry in spec.outputs if not entry.per_step
    ]
    after = [array.copy() for array in state]
    good = np.ones(len(rows), np.bool_)

    inputs = RaggedColumns(spec.inputs, sequences.inputs, sequences.lengths)

    async def bucket(places: NDArray[np.intp]) -> None:
        make: Any = partial(SequenceJob, spec, inputs, rows[places], state=[array[places] for array in state])
        job: SequenceJob = await run(scheduler, make, cancellation)
        outputs, successors, well = job.results()
        kept = [
            array for array, entry in zip(outputs.arrays, spec.outputs, strict=True) if not entry.per_step
        ]
        for whole, part in zip([*last, *after], [*kept, *successors], strict=True):
            whole[places] = part
        good[places] = well

    buckets = list(buckets_of_like_length(np.arange(len(rows)), lengths))
    for outcome in await asyncio.gather(*map(bucket, buckets), return_exceptions=True):
        if outcome is not None:
            raise outcome
    return last, after, good
