"""Steps many sessions of one model together, without a Python object for each.

Several requests may step rows of one group at a time as long as these touch different rows; others wait for
their turn. A row that fails alone is sent again alone.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from statewise.client.groups._group_journal import GroupJournal
from statewise.client.groups._group_request import (
    GroupRequest,
    GroupResult,
    choose_rows,
    cut_requests,
    join_results,
    outputs_of_good_rows,
)
from statewise.client.groups._remote_rows import RemoteRows
from statewise.client.groups._row_turns import Index, RowTurns
from statewise.client.requests import Beginnings
from statewise.client.sessions import (
    OpenedSession,
    RemoteSession,
    StepCommand,
    resolve_uncertainty,
    retry_until_applied,
)
from statewise.client.stream import (
    Exchange,
    Gather,
    Operation,
    StepBatcher,
    StepResult,
    StreamMultiplexer,
    exchange,
    pause_before_retry,
)
from statewise.client.values import (
    Failed,
    InputReader,
    ModelInfo,
    PartialFailure,
    RequestLimits,
    Rows,
    SessionNotFound,
    StatewiseError,
    Status,
    Subject,
    Use,
    Value,
    error_of,
    of_batch,
    read_outputs,
    rows_of,
    status_of_row,
)
from statewise.v1 import sequence_pb2
from statewise.wire import Reason, pack_uint64, unpack_uint64

T = TypeVar("T")


class GroupCore:
    """Sessions of one model version, in a fixed order, and the operations on them.

    Args:
        multiplexer: the connection.
        batcher: names the model version and the limits of a request.
        reader: reads inputs for that version.
        journal: keeps what the sessions consume.
        opened: the sessions as the server described them.
        beginnings: what their states began from; None: the model's initial state.
    """

    def __init__(
        self,
        multiplexer: StreamMultiplexer,
        batcher: StepBatcher,
        reader: InputReader,
        journal: GroupJournal,
        opened: Sequence[OpenedSession],
        beginnings: Beginnings | None = None,
    ) -> None:
        self.multiplexer = multiplexer
        self._batcher = batcher
        self._reader = reader
        self.remote = RemoteRows(multiplexer, batcher, journal, opened, beginnings)
        self._everything = np.arange(len(opened))
        self._turns = RowTurns(len(opened))
        self.closed = False

    @property
    def model(self) -> ModelInfo:
        """The version the sessions are pinned to."""
        return self._batcher.model

    @property
    def ids(self) -> tuple[str, ...]:
        """The sessions' ids, in order."""
        return self.remote.ids

    @property
    def positions(self) -> NDArray[np.uint64]:
        """Time steps that each session has consumed."""
        return self.remote.positions

    @property
    def durable_positions(self) -> NDArray[np.uint64]:
        """Time steps of each session that a killed server would still have."""
        return self.remote.durable_positions

    def __len__(self) -> int:
        """Returns the number of sessions."""
        return len(self._everything)

    def step(self, value: object, index: object, batcher: StepBatcher | None = None) -> Operation[Value]:
        """Advances the sessions chosen by `index` (None: all) by one time step each, or by several.

        Raises:
            InvalidInput: at once. The operation raises PartialFailure or any StatewiseError.
        """
        chosen = self.choose(index)
        rows = self._reader.rows_of_steps(value, len(chosen))
        if rows is None:
            rows = self._reader.read(value, Use.GROUP, count=len(chosen))
        return self.in_turn(chosen, self._step(chosen, rows, batcher or self._batcher))

    def close(self) -> Operation[None]:
        """Ends the sessions. Closing twice, or sessions that the server no longer has, is no failure."""
        yield from self._turns.acquire(self._everything)
        if not self.closed:
            yield from self._turns.hold(self._everything, self._close())

    def choose(self, index: object) -> Index:
        """Returns the rows that a caller's index names. Raises InvalidInput."""
        return choose_rows(self._everything, index)

    @property
    def request_limits(self) -> RequestLimits:
        """The largest request of the model."""
        return self._batcher.request_limits

    def in_turn(self, rows: Index, body: Operation[T]) -> Operation[T]:
        """Runs an operation when all earlier ones that touch these rows are done."""
        yield from self._turns.acquire(rows)
        if self.closed:
            raise self.multiplexer.closed_error() or SessionNotFound("the group is closed")
        return (yield from self._turns.hold(rows, body))

    def _step(self, chosen: Index, rows: Rows, batcher: StepBatcher) -> Operation[Value]:
        model = self.model
        requests = list(cut_requests(model, batcher.request_limits, chosen, rows))
        if len(requests) == 1:
            results: list[GroupResult] = [(yield from self._send(requests[0], batcher))]
        else:
            outcomes = yield Gather([self._send(request, batcher) for request in requests])
            if all(isinstance(outcome, StatewiseError) for outcome in outcomes):
                raise outcomes[0]
            results = [
                outcome if isinstance(outcome, GroupResult) else GroupResult.failed(request, outcome, model)
                for request, outcome in zip(requests, outcomes, strict=True)
            ]
        whole = join_results(requests, results)
        if whole.errors:
            raise PartialFailure(
                rows_of(model, whole.outputs, rows.steps, stepwise=rows.stepwise, without=whole.errors),
                whole.errors,
            )
        return of_batch(model, whole.outputs, rows.steps, form=rows.form, stepwise=rows.stepwise)

    def _send(self, request: GroupRequest, batcher: StepBatcher) -> Operation[GroupResult]:
        """Sends one request until it is answered; rows that fail alone are sent again alone."""
        if self.remote.uncertain:
            yield from self._resolve_uncertainty(request.rows)
        policy = self.multiplexer.retry_policy()
        maybe_applied = False
        while True:
            message = batcher.encode_request(
                self.remote.handles[request.rows],
                self.remote.positions[request.rows],
                request.steps,
                request.columns,
            )
            try:
                reply: sequence_pb2.StepResponse = yield Exchange("step", message)
                break
            except Failed as failed:
                maybe_applied |= failed.status.maybe_applied
                if not (yield from pause_before_retry(self.multiplexer, policy, failed.status)):
                    if maybe_applied:
                        self.remote.note_uncertain(request)
                    raise error_of(failed.status, self._subject()) from None
            except GeneratorExit:
                # The caller left between two tries.
                if maybe_applied:
                    self.remote.note_uncertain(request)
                raise
        if not reply.errors:
            outputs = read_outputs(
                self.model, reply.outputs, rows=len(request.rows), steps=int(request.steps.sum())
            )
            self.remote.applied(request, unpack_uint64(reply.durable_positions))
            return GroupResult(outputs, {})
        return (yield from self._settle_partial(request, reply, batcher, maybe_applied))

    def _settle_partial(
        self,
        request: GroupRequest,
        reply: sequence_pb2.StepResponse,
        batcher: StepBatcher,
        maybe_applied: bool,
    ) -> Operation[GroupResult]:
        """Takes a reply in which some rows failed; sends the retryable ones again."""
        statuses = {error.row: status_of_row(error) for error in reply.errors}
        good, outputs = outputs_of_good_rows(self.model, request, reply, list(statuses))
        self.remote.applied(request.subset(self.model, good), unpack_uint64(reply.durable_positions))
        result = GroupResult(outputs, {})
        retried: dict[int, tuple[RemoteSession, Status]] = {}
        for row, status in statuses.items():
            remote = self.remote.session(int(request.rows[row]))
            if remote.retryable(status):
                retried[row] = remote, status
                continue
            result.errors[row] = error_of(status, remote.subject)
            if maybe_applied and status.reason != Reason.SESSION_MOVED:
                self.remote.note_uncertain(request.subset(self.model, np.array([row])))
        if retried:
            yield from self._retry_rows(request, retried, result, batcher, maybe_applied)
        return result

    def _retry_rows(
        self,
        request: GroupRequest,
        retried: dict[int, tuple[RemoteSession, Status]],
        result: GroupResult,
        batcher: StepBatcher,
        maybe_applied: bool,
    ) -> Operation[None]:
        """Sends failed rows again, each alone, and puts their outcomes into `result`."""
        payloads = request.payloads(self.model)
        outcomes = yield Gather(
            [
                retry_until_applied(
                    remote,
                    status,
                    StepCommand(batcher, int(request.steps[row]), payloads[row]),
                    maybe_applied=maybe_applied,
                )
                for row, (remote, status) in retried.items()
            ]
        )
        ends = np.cumsum(request.steps, dtype=np.int64)
        for (row, (remote, _)), outcome in zip(retried.items(), outcomes, strict=True):
            self.remote.take_back(int(request.rows[row]), remote)
            if not isinstance(outcome, StepResult):
                result.errors[row] = outcome
                continue
            elements = slice(ends[row] - request.steps[row], ends[row])
            for spec, whole, array in zip(self.model.outputs, result.outputs, outcome.outputs, strict=True):
                whole[elements if spec.per_step else row] = array
            alone = request.subset(self.model, np.array([row]))
            durable_position = np.array([outcome.durable_position], np.uint64)
            self.remote.applied(alone, durable_position, remote.connection_number)

    def _resolve_uncertainty(self, rows: Index) -> Operation[None]:
        """Resolves the uncertainty of these rows where there is one."""
        uncertain = self.remote.uncertain_among(rows)
        if not uncertain:
            return
        remotes = [self.remote.session(row) for row in uncertain]
        outcomes = yield Gather([resolve_uncertainty(remote) for remote in remotes])
        for row, remote, outcome in zip(uncertain, remotes, outcomes, strict=True):
            if isinstance(outcome, StatewiseError):
                raise outcome
            self.remote.resolved(row, remote)

    def _close(self) -> Operation[None]:
        request_limits = self._batcher.request_limits
        for begin in range(0, len(self), request_limits.rows):
            handles = self.remote.handles[begin : begin + request_limits.rows]
            request = sequence_pb2.CloseSessionsRequest(handles=pack_uint64(handles))
            reply = yield from exchange(self.multiplexer, "close", request, self._subject())
            self.closed = True
            self.remote.journal.clear()
            self.remote.handles[begin : begin + request_limits.rows] = 0
            for error in reply.errors:
                raise error_of(status_of_row(error), self._subject(begin + error.row))

    def _subject(self, row: int | None = None) -> Subject:
        return Subject("" if row is None else self.ids[row], self.model.name, self.model.version)
