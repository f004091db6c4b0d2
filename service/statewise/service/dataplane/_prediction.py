"""Runs the rows of one Predict request in buckets of like length, and collects the buckets as they finish.

The dataplane checks the values beforehand, and counts the requests.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from statewise.service.base import Array, Indices, RaggedColumns, RowFailure, ServiceError
from statewise.service.dataplane.delivery import CancellationToken
from statewise.service.inputs import GivenStates, Lengths, buckets_of_like_length, explain_fault
from statewise.service.registry import LoadedModel
from statewise.service.scheduling import SequenceRequest, SequenceResults

_Finished = tuple[Indices, SequenceResults, ServiceError | None]


@dataclass(frozen=True, slots=True)
class PredictPart:
    """Some rows of a prediction.

    Attributes:
        rows: Rows that succeeded, as indices into the request.
        lengths: Time steps of each of them.
        outputs: In the spec's order, for `rows`: per-step [sum(lengths), ...], others [rows, ...].
        failures: Rows that failed.
    """

    rows: Indices
    lengths: Lengths
    outputs: Sequence[Array]
    failures: Sequence[RowFailure]

    @classmethod
    def of_failures(cls, failures: Sequence[RowFailure]) -> "PredictPart":
        """Makes a part in which no row succeeded."""
        return cls(np.empty(0, np.intp), np.empty(0, np.uint32), (), failures)


class Prediction:
    """Jobs of one request.

    Args:
        model: The version that runs them.
        columns: The request's inputs.
        rows: Rows to run, each at least one time step long.
        given: States that the request gives; None: the rows begin in the model's own.
        owner: Number of the caller's owner.
        deadline_s: Rows that have not run by then fail (DEADLINE); None: none.
    """

    def __init__(
        self,
        model: LoadedModel,
        columns: RaggedColumns,
        rows: Indices,
        *,
        given: GivenStates | None,
        owner: int,
        deadline_s: float | None,
    ) -> None:
        self._model = model
        self._columns = columns
        self._given = given
        self._owner = owner
        self._lengths: Lengths = np.asarray(columns.lengths, np.uint32)
        self._cancellation = CancellationToken(deadline_s)
        self._finished: asyncio.Queue[_Finished] = asyncio.Queue()
        self._buckets = list(buckets_of_like_length(rows, self._lengths))
        self._jobs_left = 0
        self.begun_s = math.inf
        """When the first of the collected jobs began to run; inf: none has."""
        self.ended_s = 0.0
        """When the last of the collected jobs ended; 0.0: none has."""

    def submit(self) -> int:
        """Submits the jobs; gives their number."""
        self._jobs_left = len(self._buckets)
        for rows in self._buckets:
            given = self._given
            request = SequenceRequest(
                self._columns,
                rows,
                state=self._model.arena.initial(len(rows)) if given is None else given.of_rows(rows),
                owner=self._owner,
                done=partial(_put, self._finished, rows),
                is_cancelled=self._cancellation.is_cancelled,
                deadline_s=self._cancellation.deadline_s,
            )
            self._model.scheduler.submit_sequences(request)
        return len(self._buckets)

    async def next_part(self) -> PredictPart:
        """Returns the rows of the job that finishes next."""
        rows, job, failure = await self._finished.get()
        self._jobs_left -= 1
        self.ended_s = job.ended_s
        self.begun_s = min(self.begun_s, job.begun_s or math.inf)  # 0.0: the job never began
        if failure is not None:
            return PredictPart.of_failures(
                [RowFailure(row, failure.reason, failure.message) for row in rows.tolist()]
            )
        outputs, _, good = job.results()
        lengths = self._lengths[rows]
        if good.all():
            return PredictPart(rows, lengths, outputs.arrays, ())
        failures = [explain_fault(self._columns, row, row) for row in rows[~good].tolist()]
        return PredictPart(rows[good], lengths[good], outputs.take(np.flatnonzero(good)).arrays, failures)

    def abandon(self) -> None:
        """Drops the jobs that have not finished."""
        self._cancellation.cancelled = True
        if self._jobs_left:
            self._model.scheduler.drop_abandoned_soon()


def _put(
    finished: "asyncio.Queue[_Finished]", rows: Indices, job: SequenceResults, failure: ServiceError | None
) -> None:
    finished.put_nowait((rows, job, failure))
