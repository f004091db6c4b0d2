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
from statewise.client.sessions._commands import Asked, Stepping
from statewise.client.sessions._group_journal import GroupJournal
from statewise.client.sessions._remote_session import Incarnation
from statewise.client.stream import (
    Exchange,
    Gather,
    Operation,
    RequestQueue,
    RetryPolicy,
    StepBatcher,
    StepResult,
    StreamMultiplexer,
    Waiter,
    exchange,
)
from statewise.client.values import (
    Array,
    Failed,
    InputReader,
    Inputs,
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
class _Part:
    """Rows that travel in one request."""

    rows: Index
    """Of the group."""
    steps: NDArray[np.uint32]
    columns: tuple[bytes, ...]
    """In the order of the model's inputs."""


@dataclass(slots=True)
class _Gathered:
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
        self._doubts: dict[int, Asked] = {}
        self._behind: set[int] = set()
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
        yield from self._turn(self._everything)
        if not self.closed:
            yield from self._hold(self._everything, self._close())

    def _step(self, chosen: Index, rows: Rows, batcher: StepBatcher) -> Operation[Value]:
        model = self.model
        bounds = batcher.room.bounds(rows.steps)
        ends = np.cumsum(rows.steps, dtype=np.int64)
        parts = []
        for begin, end in bounds:
            first = int(ends[begin - 1]) if begin else 0
            columns = tuple(
                (column[first : ends[end - 1]] if spec.per_step else column[begin:end]).tobytes()
                for spec, column in zip(model.inputs, rows.columns, strict=True)
            )
            parts.append(_Part(chosen[begin:end], rows.steps[begin:end], columns))
        if len(parts) == 1:
            gathered = [(yield from self._send(parts[0], batcher))]
        else:
            outcomes = yield Gather([self._send(part, batcher) for part in parts])
            if all(isinstance(outcome, StatewiseError) for outcome in outcomes):
                raise outcomes[0]
            gathered = [
                outcome if isinstance(outcome, _Gathered) else self._all_failed(part, outcome)
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

    def _send(self, part: _Part, batcher: StepBatcher) -> Operation[_Gathered]:
        """One request, tried again while that can help; rows that failed alone are mended alone."""
        doubtful: list[int] = []
        if self._doubts or self._behind:
            doubtful = [row for row in part.rows.tolist() if row in self._doubts or row in self._behind]
        if doubtful:
            yield from self._settle(doubtful)
        policy = RetryPolicy(self._multiplexer)
        in_doubt = False
        while True:
            request = batcher.request(
                self._handles[part.rows], self.positions[part.rows], part.steps, part.columns
            )
            try:
                reply: sequence_pb2.StepResponse = yield Exchange("step", request)
                break
            except Failed as failed:
                in_doubt |= failed.status.in_doubt
                if not (yield from policy.again(failed.status)):
                    if in_doubt:
                        self._note_doubt(part)
                    raise error_of(failed.status, self._subject()) from None
            except GeneratorExit:
                # The caller left between two tries.
                if in_doubt:
                    self._note_doubt(part)
                raise
        return (yield from self._gather(part, reply, batcher, in_doubt))

    def _gather(
        self, part: _Part, reply: sequence_pb2.StepResponse, batcher: StepBatcher, in_doubt: bool
    ) -> Operation[_Gathered]:
        durable = unpack_uint64(reply.durable_positions)
        if not reply.errors:
            outputs = read_outputs(
                self.model, reply.outputs, rows=len(part.rows), steps=int(part.steps.sum())
            )
            self._applied(part, durable)
            return _Gathered(outputs, {})
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
        mended: dict[int, Incarnation] = {}
        for row, status in statuses.items():
            incarnation = self._incarnation(int(part.rows[row]))
            if incarnation.mendable(status):
                mended[row] = incarnation
            else:
                errors[row] = error_of(status, incarnation.subject)
                if in_doubt and status.reason != Reason.SESSION_MOVED:
                    self._note_doubt(self._subset(part, np.array([row])))
        if mended:
            cuts = _cut(self.model, part.columns, part.steps)
            outcomes = yield Gather(
                [
                    incarnation.insist(
                        statuses[row], Stepping(batcher, int(part.steps[row]), cuts[row]), in_doubt=in_doubt
                    )
                    for row, incarnation in mended.items()
                ]
            )
            ends = np.cumsum(part.steps, dtype=np.int64)
            for (row, incarnation), outcome in zip(mended.items(), outcomes, strict=True):
                self._take_back(int(part.rows[row]), incarnation)
                if not isinstance(outcome, StepResult):
                    errors[row] = outcome
                    continue
                for spec, whole, array in zip(self.model.outputs, outputs, outcome.outputs, strict=True):
                    whole[slice(ends[row] - part.steps[row], ends[row]) if spec.per_step else row] = array
                alone = self._subset(part, np.array([row]))
                self._applied(alone, np.array([outcome.durable_position], np.uint64))
        return _Gathered(outputs, errors)

    def _note_doubt(self, part: _Part) -> None:
        cuts = _cut(self.model, part.columns, part.steps)
        for row, steps, payload in zip(part.rows.tolist(), part.steps.tolist(), cuts, strict=True):
            self._doubts[row] = Stepping(self._batcher, steps, payload)

    def _settle(self, rows: Sequence[int]) -> Operation[None]:
        incarnations = [self._incarnation(row) for row in rows]
        outcomes = yield Gather([incarnation.settle() for incarnation in incarnations])
        for row, incarnation, outcome in zip(rows, incarnations, outcomes, strict=True):
            if isinstance(outcome, StatewiseError):
                raise outcome
            self._doubts.pop(row, None)
            self._take_back(row, incarnation)
            self.positions[row] = incarnation.position

    def _close(self) -> Operation[None]:
        room = self._batcher.room
        for begin in range(0, len(self), room.rows):
            handles = self._handles[begin : begin + room.rows]
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
        yield from self._turn(rows)
        if self.closed:
            raise SessionNotFound("the group is closed")
        return (yield from self._hold(rows, body))

    def _turn(self, rows: Index) -> Operation[None]:
        if self._waiting or self._busy[rows].any():
            yield _AcquireRows(self._waiting, rows)

    def _hold(self, rows: Index, body: Operation[T]) -> Operation[T]:
        self._busy[rows] = True
        try:
            return (yield from body)
        finally:
            self._busy[rows] = False
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting and not self._busy[self._waiting[0][1]].any():
            self._waiting.popleft()[0].resume(None)

    def _applied(self, part: _Part, durable: NDArray[np.uint64]) -> None:
        self.positions[part.rows] += part.steps
        self._connection_numbers[part.rows] = self._multiplexer.connection_number
        self._journal.append(part.rows, part.steps, part.columns)
        if len(durable):
            self.durable_positions[part.rows] = durable
            self._journal.forget(self.durable_positions)

    def _incarnation(self, row: int) -> Incarnation:
        session = sequence_pb2.Session(
            session_id=self.ids[row],
            handle=int(self._handles[row]),
            position=int(self.positions[row]),
            durable_position=int(self.durable_positions[row]),
        )
        opening = None if self._conditions is None else self._conditions.request([self.ids[row]], row)
        incarnation = Incarnation(self._multiplexer, self._batcher, self._journal.of(row), session, opening)
        incarnation.connection_number = int(self._connection_numbers[row])
        incarnation.doubt = self._doubts.get(row)
        incarnation.behind = row in self._behind
        return incarnation

    def _take_back(self, row: int, incarnation: Incarnation) -> None:
        self._handles[row] = incarnation.handle
        self._connection_numbers[row] = incarnation.connection_number
        if incarnation.doubt is not None:
            self._doubts[row] = incarnation.doubt
        if incarnation.behind:
            self._behind.add(row)
        else:
            self._behind.discard(row)

    def _subset(self, part: _Part, rows: Index) -> _Part:
        cuts = _cut(self.model, part.columns, part.steps)
        columns = tuple(
            b"".join(column) for column in zip(*(cuts[row] for row in rows.tolist()), strict=True)
        )
        return _Part(part.rows[rows], part.steps[rows], columns)

    def _all_failed(self, part: _Part, error: StatewiseError) -> _Gathered:
        total = int(part.steps.sum())
        outputs = [
            np.zeros((total if spec.per_step else len(part.rows), *spec.shape), spec.dtype)
            for spec in self.model.outputs
        ]
        return _Gathered(outputs, dict.fromkeys(range(len(part.rows)), error))

    def _subject(self, row: int | None = None) -> Subject:
        return Subject("" if row is None else self.ids[row], self.model.name, self.model.version)


def _cut(model: ModelInfo, columns: Sequence[bytes], steps: NDArray[np.uint32]) -> list[Inputs]:
    """The payload of each row."""
    by_input = [
        row_bytes(column, steps, per_step=spec.per_step)
        for spec, column in zip(model.inputs, columns, strict=True)
    ]
    return list(zip(*by_input, strict=True))


def _joined(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
