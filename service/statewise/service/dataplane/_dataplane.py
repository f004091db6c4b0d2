"""What the server does with sequences, without transport: predicting whole ones, stepping sessions.

Not gRPC: servicers convert, call this, convert back. Not the life of sessions (sessions.py). Whoever calls
has an owner's name; nobody steps another owner's sessions. A request that is refused has changed nothing.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import (
    Array,
    Handles,
    RaggedColumns,
    RowFailure,
    ServiceError,
    ServiceLimits,
    StepBatch,
    StepResult,
    model_fault,
)
from statewise.service.dataplane.sessions import SessionAdministration, Sessions
from statewise.service.inputs import arrange_inputs, invalid_rows
from statewise.service.registry import LoadedModel, ModelRegistry
from statewise.service.scheduling import SequenceJob, buckets_of_like_length
from statewise.service.session_state import SessionTable, UndeliveredBytes
from statewise.service.telemetry import SlowRequests, Statistics
from statewise.wire import DTYPES, ModelSpec, Reason

if TYPE_CHECKING:
    from statewise.service.tracing import Tracing

Lengths = NDArray[np.uint32]
Reply = Callable[[StepResult | ServiceError], None]
_Finished = tuple[NDArray[np.intp], SequenceJob, ServiceError | None]


@dataclass(frozen=True, slots=True)
class PredictPart:
    """Some rows of a prediction.

    Attributes:
        rows: Indices into the request, those that succeeded.
        lengths: Their time steps.
        outputs: In the spec's order, rows as in `rows`: per-step [sum(lengths), ...], others [rows, ...].
        failures: Rows that failed.
    """

    rows: NDArray[np.intp]
    lengths: Lengths
    outputs: Sequence[Array]
    failures: Sequence[RowFailure]


class Dataplane:
    """The server's behaviour.

    Args:
        models: What is served.
        table: The sessions.
        sessions: Operations on sessions.
        session_administration: Operations on sessions without handles.
        limits: What every request has to satisfy.
        statistics: Counts of the whole server.
        slow: Tells of requests that took long.
        tracing: Makes spans of requests; None: there are none.
        clock: Seconds, monotonic; deadlines are on it.
    """

    def __init__(
        self,
        models: ModelRegistry,
        table: SessionTable,
        *,
        sessions: Sessions,
        session_administration: SessionAdministration,
        limits: ServiceLimits,
        statistics: Statistics,
        slow: SlowRequests,
        tracing: "Tracing | None",
        clock: Callable[[], float],
    ) -> None:
        self.models = models
        self.table = table
        self.sessions = sessions
        self.session_administration = session_administration
        self.limits = limits
        self.statistics = statistics
        self._slow = slow
        self.tracing = tracing
        self.clock = clock
        self.undelivered = UndeliveredBytes(
            limit=limits.settings.prediction_bytes, owner_limit=limits.settings.owner_prediction_bytes
        )

    # --- whole sequences ---

    async def predict(
        self,
        model: LoadedModel,
        lengths: Lengths,
        inputs: Mapping[str, Array],
        *,
        owner: str,
        deadline_s: float | None,
    ) -> AsyncGenerator[PredictPart]:
        """Runs sequences from the initial state. Every row is in exactly one part.

        Args:
            model: The version that runs them.
            lengths: Time steps of each row.
            inputs: By name: per-step [sum(lengths), ...], others [rows, ...].
            owner: Who asks.
            deadline_s: Rows that have not run by then fail (DEADLINE); None: none.

        Raises:
            ServiceError: BAD_TENSOR, BYTES_LIMIT, QUEUE_FULL, DRAINING.
        """
        received_s = self.clock()
        self.limits.refuse_when_draining()
        time_steps = self.limits.check_size(len(lengths), lengths)
        spec = model.package.spec
        arranged = arrange_inputs(spec, inputs, rows=len(lengths), time_steps=time_steps)
        model.scheduler.check_capacity(time_steps)
        invalid = invalid_rows(spec, arranged, lengths)
        work = model.scheduler.statistics.predict
        if invalid:
            work.errors[Reason.BAD_TENSOR] += len(invalid)
            yield _failures_alone(
                [RowFailure(row, Reason.BAD_TENSOR, why) for row, why in sorted(invalid.items())]
            )
        good = np.arange(len(lengths))
        if invalid:
            good = np.delete(good, list(invalid))
        finished: asyncio.Queue[_Finished] = asyncio.Queue()
        left = False
        buckets = list(buckets_of_like_length(good, lengths))
        begun_s, ended_s = math.inf, self.clock()
        number = self.table.owner_number(owner)
        columns = RaggedColumns(spec.inputs, arranged, lengths)
        size = columns.nbytes + _output_bytes(spec, lengths)
        self.undelivered.take(number, size)
        try:
            for rows in buckets:
                job = SequenceJob(
                    spec,
                    columns,
                    rows,
                    state=model.arena.initial(len(rows)),
                    done=partial(_put, finished, rows),
                    is_cancelled=lambda: left,
                    deadline_s=deadline_s,
                )
                model.scheduler.submit_job(job)
            for _ in buckets:
                rows, job, failure = await finished.get()
                ended_s = job.ended_s  # that of the last one in the end: they come as they end
                begun_s = min(begun_s, job.begun_s or math.inf)  # 0.0: it never began
                part = _part(rows, job, failure, lengths)
                work.add(len(part.rows), int(part.lengths.sum()), part.failures)
                yield part
        finally:
            left = True
            self.undelivered.give_back(number, size)
        self.answered(
            "predict",
            model,
            ended_s - received_s,
            queue_s=None if math.isinf(begun_s) else begun_s - received_s,
            rows=len(lengths),
            steps=time_steps,
        )

    def answered(
        self,
        operation: str,
        model: LoadedModel,
        latency_s: float,
        *,
        rows: int,
        steps: int,
        queue_s: float | None = None,
    ) -> None:
        """Counts a request of many rows that has its answer, and tells of it where it took long."""
        model.scheduler.statistics.operations[operation].latency_s.observe(latency_s)
        if latency_s >= self._slow.limit_s:
            self._slow.tell(operation, latency_s, queue_s=queue_s, model=model.key, rows=rows, steps=steps)

    # --- steps ---

    def step(
        self,
        handles: Handles,
        positions: NDArray[np.uint64],
        steps: Lengths | None,
        inputs: Mapping[str, Array],
        *,
        owner: str,
        deadline_s: float | None,
        reply: Reply,
    ) -> StepBatch | None:
        """Asks for sessions of one model version to be advanced; `reply` gets the result, exactly once.

        Args:
            handles: uint64 [rows].
            positions: Start positions, uint64 [rows].
            steps: Time steps of each row, uint32 [rows]; None: 1 each.
            inputs: By name: per-step [sum(steps), ...], others [rows, ...].
            owner: Who asks.
            deadline_s: Rows not begun by then fail (DEADLINE); None: none.
            reply: Takes the result.

        Returns:
            The frame, to cancel it by; None where it has been answered already.

        Raises:
            ServiceError: the request as a whole is refused, and `reply` is not called.
        """
        self.limits.refuse_when_draining()
        rows = len(handles)
        if len(positions) != rows or (steps is not None and len(steps) != rows):
            self.limits.check_columns(rows, len(positions), rows if steps is None else len(steps))
        time_steps = self.limits.check_size(rows, steps)
        number = self.table.owner_number(owner)
        model = self.model_of(handles, number)
        if model is None:
            failures = [
                self.table.explain(row, handle, position, owner=number)
                for row, (handle, position) in enumerate(
                    zip(handles.tolist(), positions.tolist(), strict=True)
                )
            ]
            reply(StepResult({}, failures))
            return None
        arranged = arrange_inputs(model.package.spec, inputs, rows=rows, time_steps=time_steps)
        frame = StepBatch(handles, positions, steps, arranged, number, deadline_s, reply)
        model.scheduler.submit(frame)
        return frame

    def model_of(self, handles: Handles, owner: int) -> LoadedModel | None:
        """The one version that all the owner's handles in force belong to; None: there is none. Refuses
        repeats.
        """
        if len(handles) == 1:
            number = self.table.model_of_handle(int(handles[0]), owner=owner)
            return None if number is None else self.models[number]
        slots = self.table.slots_of(handles)
        if self.table.has_repeats(slots) and len(np.unique(handles)) != len(handles):
            raise ServiceError(Reason.BAD_REQUEST, "a handle stands twice; a frame advances a session once")
        numbers = self.table.models_of_handles(handles, slots, owner=owner)
        if len(numbers) == 0:
            return None
        if (numbers != numbers[0]).any():
            raise ServiceError(
                Reason.BAD_REQUEST, "the sessions are of different models or versions; send a frame for each"
            )
        return self.models[int(numbers[0])]


def _output_bytes(spec: ModelSpec, lengths: Lengths) -> int:
    """Bytes of all outputs of sequences of these lengths."""
    time_steps = int(lengths.sum(dtype=np.int64))
    return sum(
        math.prod(entry.shape)
        * DTYPES[entry.dtype].itemsize
        * (time_steps if entry.per_step else len(lengths))
        for entry in spec.outputs
    )


def _failures_alone(failures: Sequence[RowFailure]) -> PredictPart:
    return PredictPart(np.empty(0, np.intp), np.empty(0, np.uint32), (), failures)


def _part(
    rows: NDArray[np.intp], job: SequenceJob, failure: ServiceError | None, lengths: Lengths
) -> PredictPart:
    if failure is not None:
        return _failures_alone([RowFailure(row, failure.reason, failure.message) for row in rows.tolist()])
    outputs, _, good = job.results()
    if good.all():
        return PredictPart(rows, lengths[rows], outputs.arrays, ())
    failures = [model_fault(row) for row in rows[~good].tolist()]
    return PredictPart(rows[good], lengths[rows][good], outputs.take(np.flatnonzero(good)).arrays, failures)


def _put(
    finished: asyncio.Queue[_Finished], rows: NDArray[np.intp], job: SequenceJob, failure: ServiceError | None
) -> None:
    finished.put_nowait((rows, job, failure))
