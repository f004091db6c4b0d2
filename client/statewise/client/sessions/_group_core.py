"""Many sessions of one model stepped together, without a Python object for each.

Operations for the multiplexer over arrays of handles and positions. Rows of one group may be stepped by
several requests at a time as long as these touch different rows; what overlaps waits its turn, in order.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from statewise.client.requests import Conditions
from statewise.client.sessions._commands import SessionCommand, StepCommand
from statewise.client.sessions._group_journal import GroupJournal
from statewise.client.sessions._remote_session import RemoteSession
from statewise.client.stream import (
    Exchange,
    Gather,
    Operation,
    RequestQueue,
    StepBatcher,
    StepResult,
    StreamMultiplexer,
    Waiter,
    exchange,
    pause_before_retry,
)
from statewise.client.values import (
    Array,
    Failed,
    InputBytes,
    InputReader,
    InvalidInput,
    ModelInfo,
    PartialFailure,
    Rows,
    SessionNotFound,
    StatewiseError,
    Subject,
    Use,
    Value,
    elements_of,
    error_of,
    of_batch,
    read_outputs,
    row_bytes,
    rows_of,
    status_of_row,
)
from statewise.v1 import sequence_pb2
from statewise.wire import Reason, pack_uint64, unpack_uint64

T = TypeVar("T")
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _GroupRequest:
    """Rows that travel in one request."""

    rows: Index
    """Of the group."""
    steps: NDArray[np.uint32]
    columns: tuple[bytes, ...]
    """In the order of the model's inputs."""


@dataclass(slots=True)
class _GroupResult:
    """What the rows of a part gave."""

    outputs: list[Array]
    """In the order of the model's: of all rows of the part, zeros where a row failed."""
    errors: dict[int, StatewiseError]
    """By index in the part."""


class _AcquireRows:
    """Waits until no request before this one touches the same rows."""

    __slots__ = ("_rows", "_waiting")

    def __init__(self, waiting: deque[tuple[Waiter, Index]], rows: Index) -> None:
        self._waiting = waiting
        self._rows = rows

    def begin(self, queue: RequestQueue, waiter: Waiter) -> None:
        """Queues."""
        self._waiting.append((waiter, self._rows))

    def withdraw(self, queue: RequestQueue, waiter: Waiter) -> bool:
        """Always: nothing was sent."""
        kept = [entry for entry in self._waiting if entry[0] is not waiter]
        self._waiting.clear()
        self._waiting.extend(kept)
        return True


class GroupCore:
    """Sessions of one model version, in a fixed order, and the operations on them.

    Args:
        multiplexer: the connection.
        batcher: names the model version and its room.
        reader: reads inputs for that version.
        journal: keeps what the sessions consume.
        opened: as the server gave them.
        conditions: what they began from; None: the model's initial state.
    """

    def __init__(
        self,
        multiplexer: StreamMultiplexer,
        batcher: StepBatcher,
        reader: InputReader,
        journal: GroupJournal,
        opened: Sequence[sequence_pb2.Session],
        conditions: Conditions | None = None,
    ) -> None:
        self._multiplexer = multiplexer
        self._batcher = batcher
        self._reader = reader
        self._journal = journal
        self._conditions = conditions
        self.ids = tuple(session.session_id for session in opened)
        self._everything = np.arange(len(opened))
        self._handles = np.array([session.handle for session in opened], np.uint64)
        self.positions = np.array([session.position for session in opened], np.uint64)
        self.durable_positions = np.array([session.durable_position for session in opened], np.uint64)
        self._connection_numbers = np.full(len(opened), multiplexer.connection_number)
        self._uncertain_requests: dict[int, SessionCommand] = {}
        self._needs_replay: set[int] = set()
        self._busy = np.zeros(len(opened), np.bool_)
        self._waiting: deque[tuple[Waiter, Index]] = deque()
        self.closed = False

    @property
    def model(self) -> ModelInfo:
        """The version they are pinned to."""
        return self._batcher.model

    def __len__(self) -> int:
        """Number of sessions."""
        return len(self.ids)

    def step(self, value: object, index: object, batcher: StepBatcher | None = None) -> Operation[Value]:
        """Advances the sessions chosen by `index` (None: all) by one time step each, or by several.

        Raises:
            InvalidInput: at once; of the operation: PartialFailure or any StatewiseError.
        """
        chosen = self._chosen(index)
        rows = self._reader.rows_of_steps(value, len(chosen))
        if rows is None:
            rows = self._reader.read(value, Use.GROUP, count=len(chosen))
        return self._in_turn(chosen, self._step(chosen, rows, batcher or self._batcher))

    def close(self) -> Operation[None]:
        """Ends the sessions. Ending them twice, or ones that the server no longer has, is no failure."""
        yield from self._acquire(self._everything)
        if not self.closed:
            yield from self._hold(self._everything, self._close())

    def _step(self, chosen: Index, rows: Rows, batcher: StepBatcher) -> Operation[Value]:
        model = self.model
        bounds = batcher.request_limits.bounds(rows.steps)
        ends = np.cumsum(rows.steps, dtype=np.int64)
        parts = []
        for begin, end in bounds:
            first = int(ends[begin - 1]) if begin else 0
            columns = tuple(
                (column[first : ends[end - 1]] if spec.per_step else column[begin:end]).tobytes()
                for spec, column in zip(model.inputs, rows.columns, strict=True)
            )
            parts.append(_GroupRequest(chosen[begin:end], rows.steps[begin:end], columns))
        if len(parts) == 1:
            gathered = [(yield from self._send(parts[0], batcher))]
        else:
            outcomes = yield Gather([self._send(part, batcher) for part in parts])
            if all(isinstance(outcome, StatewiseError) for outcome in outcomes):
                raise outcomes[0]
            gathered = [
                outcome if isinstance(outcome, _GroupResult) else self._all_failed(part, outcome)
                for part, outcome in zip(parts, outcomes, strict=True)
            ]
        outputs = [_joined(arrays) for arrays in zip(*(part.outputs for part in gathered), strict=True)]
        errors = {
            begin + row: error
            for (begin, _), part in zip(bounds, gathered, strict=True)
            for row, error in part.errors.items()
        }
        if errors:
            raise PartialFailure(
                rows_of(model, outputs, rows.steps, stepwise=rows.stepwise, without=errors), errors
            )
        return of_batch(model, outputs, rows.steps, form=rows.form, stepwise=rows.stepwise)

    def _send(self, part: _GroupRequest, batcher: StepBatcher) -> Operation[_GroupResult]:
        """One request, tried again while that can help; rows that failed alone are retried alone."""
        uncertain: list[int] = []
        if self._uncertain_requests or self._needs_replay:
            uncertain = [
                row
                for row in part.rows.tolist()
                if row in self._uncertain_requests or row in self._needs_replay
            ]
        if uncertain:
            yield from self._resolve_uncertainty(uncertain)
        policy = self._multiplexer.retry_policy()
        maybe_applied = False
        while True:
            request = batcher.request(
                self._handles[part.rows], self.positions[part.rows], part.steps, part.columns
            )
            try:
                reply: sequence_pb2.StepResponse = yield Exchange("step", request)
                break
            except Failed as failed:
                maybe_applied |= failed.status.maybe_applied
                if not (yield from pause_before_retry(self._multiplexer, policy, failed.status)):
                    if maybe_applied:
                        self._note_uncertain(part)
                    raise error_of(failed.status, self._subject()) from None
            except GeneratorExit:
                # The caller left between two tries.
                if maybe_applied:
                    self._note_uncertain(part)
                raise
        return (yield from self._gather(part, reply, batcher, maybe_applied))

    def _gather(
        self, part: _GroupRequest, reply: sequence_pb2.StepResponse, batcher: StepBatcher, maybe_applied: bool
    ) -> Operation[_GroupResult]:
        durable = unpack_uint64(reply.durable_positions)
        if not reply.errors:
            outputs = read_outputs(
                self.model, reply.outputs, rows=len(part.rows), steps=int(part.steps.sum())
            )
            self._applied(part, durable)
            return _GroupResult(outputs, {})
        statuses = {error.row: status_of_row(error) for error in reply.errors}
        good = np.setdiff1d(np.arange(len(part.rows)), list(statuses))
        elements = elements_of(good, part.steps)
        read = read_outputs(self.model, reply.outputs, rows=len(good), steps=len(elements))
        total = int(part.steps.sum())
        outputs = []
        for spec, array in zip(self.model.outputs, read, strict=True):
            whole = np.zeros((total if spec.per_step else len(part.rows), *array.shape[1:]), array.dtype)
            whole[elements if spec.per_step else good] = array
            outputs.append(whole)
        self._applied(self._subset(part, good), durable)
        errors: dict[int, StatewiseError] = {}
        retried: dict[int, RemoteSession] = {}
        for row, status in statuses.items():
            remote = self._remote(int(part.rows[row]))
            if remote.retryable(status):
                retried[row] = remote
            else:
                errors[row] = error_of(status, remote.subject)
                if maybe_applied and status.reason != Reason.SESSION_MOVED:
                    self._note_uncertain(self._subset(part, np.array([row])))
        if retried:
            cuts = _cut(self.model, part.columns, part.steps)
            outcomes = yield Gather(
                [
                    remote.retry_until_applied(
                        statuses[row],
                        StepCommand(batcher, int(part.steps[row]), cuts[row]),
                        maybe_applied=maybe_applied,
                    )
                    for row, remote in retried.items()
                ]
            )
            ends = np.cumsum(part.steps, dtype=np.int64)
            for (row, remote), outcome in zip(retried.items(), outcomes, strict=True):
                self._take_back(int(part.rows[row]), remote)
                if not isinstance(outcome, StepResult):
                    errors[row] = outcome
                    continue
                for spec, whole, array in zip(self.model.outputs, outputs, outcome.outputs, strict=True):
                    whole[slice(ends[row] - part.steps[row], ends[row]) if spec.per_step else row] = array
                alone = self._subset(part, np.array([row]))
                self._applied(alone, np.array([outcome.durable_position], np.uint64))
        return _GroupResult(outputs, errors)

    def _note_uncertain(self, part: _GroupRequest) -> None:
        cuts = _cut(self.model, part.columns, part.steps)
        for row, steps, payload in zip(part.rows.tolist(), part.steps.tolist(), cuts, strict=True):
            self._uncertain_requests[row] = StepCommand(self._batcher, steps, payload)

    def _resolve_uncertainty(self, rows: Sequence[int]) -> Operation[None]:
        remotes = [self._remote(row) for row in rows]
        outcomes = yield Gather([remote.resolve_uncertainty() for remote in remotes])
        for row, remote, outcome in zip(rows, remotes, outcomes, strict=True):
            if isinstance(outcome, StatewiseError):
                raise outcome
            self._uncertain_requests.pop(row, None)
            self._take_back(row, remote)
            self.positions[row] = remote.position

    def _close(self) -> Operation[None]:
        request_limits = self._batcher.request_limits
        for begin in range(0, len(self), request_limits.rows):
            handles = self._handles[begin : begin + request_limits.rows]
            request = sequence_pb2.CloseSessionsRequest(handles=pack_uint64(handles))
            reply = yield from exchange(self._multiplexer, "close", request, self._subject())
            self.closed = True
            self._journal.clear()
            for error in reply.errors:
                raise error_of(status_of_row(error), self._subject(begin + error.row))

    def _chosen(self, index: object) -> Index:
        everything = self._everything
        if index is None:
            return everything
        picked = index if isinstance(index, slice) else np.asarray(index)
        try:
            chosen = everything[picked] if isinstance(picked, slice) or picked.size else everything[:0]
        except IndexError as error:
            raise InvalidInput(f"expected an index into {len(self)} sessions: {error}") from None
        if chosen.ndim != 1 or not len(chosen):
            raise InvalidInput(
                f"expected at least one index, in one dimension; got shape {list(chosen.shape)}"
            )
        if len(np.unique(chosen)) != len(chosen):
            raise InvalidInput("expected every session at most once; an index stands twice")
        return chosen

    def _in_turn(self, rows: Index, body: Operation[T]) -> Operation[T]:
        yield from self._acquire(rows)
        if self.closed:
            raise SessionNotFound("the group is closed")
        return (yield from self._hold(rows, body))

    def _acquire(self, rows: Index) -> Operation[None]:
        if self._waiting or self._busy[rows].any():
            yield _AcquireRows(self._waiting, rows)

    def _hold(self, rows: Index, body: Operation[T]) -> Operation[T]:
        self._busy[rows] = True
        try:
            return (yield from body)
        finally:
            self._busy[rows] = False
            self._wake_waiting()

    def _wake_waiting(self) -> None:
        while self._waiting and not self._busy[self._waiting[0][1]].any():
            self._waiting.popleft()[0].resume(None)

    def _applied(self, part: _GroupRequest, durable: NDArray[np.uint64]) -> None:
        self.positions[part.rows] += part.steps
        self._connection_numbers[part.rows] = self._multiplexer.connection_number
        self._journal.append(part.rows, part.steps, part.columns)
        if len(durable):
            self.durable_positions[part.rows] = durable
            self._journal.forget(self.durable_positions)

    def _remote(self, row: int) -> RemoteSession:
        session = sequence_pb2.Session(
            session_id=self.ids[row],
            handle=int(self._handles[row]),
            position=int(self.positions[row]),
            durable_position=int(self.durable_positions[row]),
        )
        opening = None if self._conditions is None else self._conditions.request([self.ids[row]], row)
        remote = RemoteSession(self._multiplexer, self._batcher, self._journal.of(row), session, opening)
        remote.connection_number = int(self._connection_numbers[row])
        remote.uncertain_request = self._uncertain_requests.get(row)
        remote.needs_replay = row in self._needs_replay
        return remote

    def _take_back(self, row: int, remote: RemoteSession) -> None:
        self._handles[row] = remote.handle
        self._connection_numbers[row] = remote.connection_number
        if remote.uncertain_request is not None:
            self._uncertain_requests[row] = remote.uncertain_request
        if remote.needs_replay:
            self._needs_replay.add(row)
        else:
            self._needs_replay.discard(row)

    def _subset(self, part: _GroupRequest, rows: Index) -> _GroupRequest:
        cuts = _cut(self.model, part.columns, part.steps)
        columns = tuple(
            b"".join(column) for column in zip(*(cuts[row] for row in rows.tolist()), strict=True)
        )
        return _GroupRequest(part.rows[rows], part.steps[rows], columns)

    def _all_failed(self, part: _GroupRequest, error: StatewiseError) -> _GroupResult:
        total = int(part.steps.sum())
        outputs = [
            np.zeros((total if spec.per_step else len(part.rows), *spec.shape), spec.dtype)
            for spec in self.model.outputs
        ]
        return _GroupResult(outputs, dict.fromkeys(range(len(part.rows)), error))

    def _subject(self, row: int | None = None) -> Subject:
        return Subject("" if row is None else self.ids[row], self.model.name, self.model.version)


def _cut(model: ModelInfo, columns: Sequence[bytes], steps: NDArray[np.uint32]) -> list[InputBytes]:
    """The payload of each row."""
    by_input = [
        row_bytes(column, steps, per_step=spec.per_step)
        for spec, column in zip(model.inputs, columns, strict=True)
    ]
    return list(zip(*by_input, strict=True))


def _joined(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
