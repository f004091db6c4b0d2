"""Predicts whole sequences and steps sessions, without transport: the calls that most requests make.

Generation and the other operations on sessions are elsewhere in this folder. An owner reaches only its own
sessions. A request that is refused as a whole has changed nothing.
"""

import logging
import math
from collections.abc import AsyncGenerator, Callable, Mapping
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
    server_fault,
)
from statewise.service.dataplane._prediction import Prediction, PredictPart
from statewise.service.dataplane._session_states import SessionStates
from statewise.service.dataplane._state_listing import StateListing
from statewise.service.dataplane.delivery import UndeliveredBytes
from statewise.service.dataplane.sessions import IdleExpiry, SessionAdministration, Sessions
from statewise.service.inputs import GivenStates, Lengths, arrange_inputs, invalid_rows
from statewise.service.registry import LoadedModel, ModelRegistry
from statewise.service.scheduling.prefixes import PrefixBudget
from statewise.service.session_state import SessionTable
from statewise.service.telemetry import SlowRequests, Statistics
from statewise.wire import Reason

if TYPE_CHECKING:
    from statewise.service.tracing import Tracing

_log = logging.getLogger(__name__)

Reply = Callable[[StepResult | ServiceError], None]


class Dataplane:
    """The server's behaviour.

    Args:
        models: The served models.
        table: The sessions.
        sessions: Operations on sessions.
        session_states: Operations on their states.
        session_administration: Operations on sessions without handles.
        idle_expiry: Ends sessions that are not used.
        limits: Limits of every request.
        statistics: Counts of the whole server.
        slow: Logs slow requests.
        tracing: Makes spans of requests; None: there are no spans.
        prefixes: Beginnings of sequences that are kept; None: none are.
        clock: Seconds, monotonic; deadlines are times of this clock.
    """

    def __init__(
        self,
        models: ModelRegistry,
        table: SessionTable,
        *,
        sessions: Sessions,
        session_states: SessionStates,
        session_administration: SessionAdministration,
        idle_expiry: IdleExpiry,
        limits: ServiceLimits,
        statistics: Statistics,
        slow: SlowRequests,
        tracing: "Tracing | None",
        prefixes: PrefixBudget | None,
        clock: Callable[[], float],
    ) -> None:
        self.models = models
        self.table = table
        self.sessions = sessions
        self._stored = sessions.stored
        self.session_states = session_states
        self.session_administration = session_administration
        self.state_listing = StateListing(
            models, table, administration=session_administration, limits=limits, stored=sessions.stored
        )
        self.idle_expiry = idle_expiry
        self.limits = limits
        self.statistics = statistics
        self._message_bytes = limits.settings.message_bytes
        self._slow = slow
        self.tracing = tracing
        self.prefixes = prefixes
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
        given: GivenStates | None = None,
    ) -> AsyncGenerator[PredictPart]:
        """Runs sequences from the initial state, or from given ones. Every row is in exactly one part.

        Args:
            model: The version that runs them.
            lengths: Time steps of each row.
            inputs: By name: per-step [sum(lengths), ...], others [rows, ...].
            owner: Name of the caller's owner.
            deadline_s: Rows that have not run by then fail (DEADLINE); None: none.
            given: States of the rows; None: the model's own.

        Raises:
            ServiceError: BAD_TENSOR, BYTES_LIMIT, QUEUE_FULL, DRAINING.
        """
        received_s = self.clock()
        self.limits.refuse_when_draining()
        time_steps = self.limits.check_size(len(lengths), lengths)
        spec = model.package.spec
        arranged = arrange_inputs(spec, inputs, rows=len(lengths), time_steps=time_steps)
        model.scheduler.check_capacity(time_steps)
        invalid = {**({} if given is None else given.failures), **invalid_rows(spec, arranged, lengths)}
        work = model.scheduler.statistics.predict
        if invalid:
            work.errors[Reason.BAD_TENSOR] += len(invalid)
            yield PredictPart.of_failures(
                [RowFailure(row, Reason.BAD_TENSOR, why) for row, why in sorted(invalid.items())]
            )
        valid = np.delete(np.arange(len(lengths)), list(invalid))
        columns = RaggedColumns(spec.inputs, arranged, lengths)
        number = self.table.owner_number(owner)
        prediction = Prediction(model, columns, valid, given=given, owner=number, deadline_s=deadline_s)
        row_bytes, step_bytes = model.output_sizes
        size = columns.nbytes + len(lengths) * (model.state_bytes + row_bytes) + time_steps * step_bytes
        self.undelivered.take(number, size)
        try:
            for _ in range(prediction.submit()):
                part = await prediction.next_part()
                work.add(len(part.rows), int(part.lengths.sum()), part.failures)
                self._note_nonfinite(model, part)
                yield part
        finally:
            prediction.abandon()
            self.undelivered.give_back(number, size)
        self.record_answer(
            "predict",
            model,
            (prediction.ended_s or self.clock()) - received_s,
            queue_s=None if math.isinf(prediction.begun_s) else prediction.begun_s - received_s,
            rows=len(lengths),
            steps=time_steps,
        )

    def _note_nonfinite(self, model: LoadedModel, part: PredictPart) -> None:
        outputs = RaggedColumns(model.package.spec.outputs, part.outputs, part.lengths)
        rows = len(outputs.nonfinite_rows()) if len(part.rows) else 0
        if rows and model.scheduler.statistics.count_nonfinite(rows):
            _log.warning("%s/%d predicts numbers that are not finite", *model.key)

    def record_answer(
        self,
        operation: str,
        model: LoadedModel,
        latency_s: float,
        *,
        rows: int,
        steps: int,
        queue_s: float | None = None,
    ) -> None:
        """Records the latency of an answered request of many rows, and logs the request if it was slow."""
        model.scheduler.statistics.operations[operation].latency_s.observe(latency_s)
        if latency_s >= self._slow.limit_s:
            self._slow.log(operation, latency_s, queue_s=queue_s, model=model.key, rows=rows, steps=steps)

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
        """Advances sessions of one model version; `reply` gets the result, exactly once.

        Args:
            handles: uint64 [rows].
            positions: Start positions, uint64 [rows].
            steps: Time steps of each row, uint32 [rows]; None: 1 each.
            inputs: By name: per-step [sum(steps), ...], others [rows, ...].
            owner: Name of the caller's owner.
            deadline_s: Rows that have not begun to run by then fail (DEADLINE); None: none.
            reply: Takes the result.

        Returns:
            The batch, for cancelling; None where `reply` has been called already.

        Raises:
            ServiceError: the request as a whole is refused; `reply` is not called.
        """
        self.limits.refuse_when_draining()
        rows = len(handles)
        if len(positions) != rows or (steps is not None and len(steps) != rows):
            self.limits.check_columns(rows, len(positions), rows if steps is None else len(steps))
        self.limits.check_size(rows, steps)
        if steps is not None and not steps.all():
            row = int(np.argmin(steps))
            raise ServiceError(Reason.BAD_TENSOR, f"row {row} has 0 time steps; expected at least 1")
        number = self.table.owner_number(owner)
        batch = StepBatch(handles, positions, steps, [], number, deadline_s, reply)
        if self._stored is not None:
            current = self._stored.handles.find(handles, number)
            if current is None:
                self._stored.handles.wait(handles, number, partial(self._begin_awake, batch, inputs))
                return batch
            batch.handles = current
        size = self._begin(batch, inputs)
        if size is None:
            return None
        batch.output_bytes = size
        return batch

    def _begin(self, batch: StepBatch, inputs: Mapping[str, Array]) -> int | None:
        """Submits steps of sessions in memory.

        Returns:
            Bytes of the outputs; None: the batch is answered already.

        Raises:
            ServiceError: as of `step`.
        """
        model = self.sessions.version_of(batch.handles, batch.owner)
        if model is None:
            batch.reply(StepResult({}, self.explain_rows(batch.handles, batch.positions, batch.owner)))
            return None
        rows = len(batch.handles)
        row_bytes, step_bytes = model.output_sizes
        size = rows * row_bytes + batch.time_steps * step_bytes
        if size > self._message_bytes:
            raise ServiceError(
                Reason.BYTES_LIMIT,
                f"outputs of the request take {size} bytes, in one message; expected at most "
                f"{self._message_bytes}: ask for fewer steps or rows",
            )
        batch.inputs = arrange_inputs(model.package.spec, inputs, rows=rows, time_steps=batch.time_steps)
        if self._stored is not None:
            self._stored.refuse_when_away()
            batch.reply = self._stored.replies.held(
                batch.reply, batch.handles, batch.positions, batch.steps, model.package.spec.outputs
            )
        model.scheduler.submit(batch)
        return size

    def _begin_awake(
        self, batch: StepBatch, inputs: Mapping[str, Array], failure: ServiceError | None
    ) -> None:
        """Submits steps that had to wait for sessions to wake; answers where that is not possible."""
        assert self._stored is not None
        reply = batch.reply
        batch.handles = self._stored.handles.current(batch.handles, batch.owner)
        try:
            if failure is not None:
                raise failure
            self._begin(batch, inputs)
        except ServiceError as error:
            reply(error)
        except Exception as error:
            _log.error("steps cannot begin", exc_info=error)
            reply(server_fault())

    def explain_rows(self, handles: Handles, positions: NDArray[np.uint64], owner: int) -> list[RowFailure]:
        """Returns why each row of a request without any valid handle fails."""
        pairs = zip(handles.tolist(), positions.tolist(), strict=True)
        return [self.table.explain(row, *pair, owner=owner) for row, pair in enumerate(pairs)]
