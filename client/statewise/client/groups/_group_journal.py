"""Keeps the requests of a group, and cuts one session's inputs from them when needed.

Requests are kept whole because a Python object for each row would cost more than the row. The bounds are
those of single sessions' journals, with the same budget.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.client.sessions import ByteBudget, Entry, GeneratePayload, Payload
from statewise.client.values import ModelInfo

# CPython's own cost of a record: the object, two arrays' headers, a bytes object.
_RECORD_BYTES = 500
_TAKEN_OUT = -1
"""In place of a row whose part of a record counts no more."""


@dataclass(frozen=True, slots=True, eq=False)
class _StepRecord:
    rows: NDArray[np.intp]
    steps: NDArray[np.uint32]
    columns: tuple[bytes, ...]
    size_bytes: int

    @property
    def held(self) -> tuple[NDArray[np.intp], NDArray[np.uint32]]:
        """The rows that were not taken out, and their time steps."""
        held = self.rows != _TAKEN_OUT
        return self.rows[held], self.steps[held]


class GroupJournal:
    """The requests of a group's sessions since their starts.

    Args:
        model: says which inputs have a value for each time step.
        starts: position before each session's first entry, uint64 [sessions].
        limit_bytes: bytes this journal may hold, all sessions together.
        budget: shared with the other journals of the client.
        keep_tail: as for `Journal`.
    """

    def __init__(
        self,
        model: ModelInfo,
        starts: NDArray[np.uint64],
        *,
        limit_bytes: int,
        budget: ByteBudget,
        keep_tail: bool,
    ) -> None:
        self._model = model
        self._starts = starts.copy()
        self._limit_bytes = limit_bytes
        self._budget = budget
        self._keep_tail = keep_tail
        self._records: deque[_StepRecord] = deque()
        self._bytes = 0
        self._lost = np.zeros(len(starts), np.bool_)
        """Sessions of which nothing is kept."""

    @property
    def keeps_tail(self) -> bool:
        """Whether a store has what came before the records."""
        return self._keep_tail

    def append(self, rows: NDArray[np.intp], steps: NDArray[np.uint32], columns: tuple[bytes, ...]) -> None:
        """Adds a request that was applied to `rows`."""
        if not len(rows) or self._lost.all():
            return
        size = sum(map(len, columns)) + steps.nbytes + _RECORD_BYTES
        # The rows are a copy, because some may be taken out of the record.
        self._records.append(_StepRecord(rows.copy(), steps, columns, size))
        self._account(size)
        while self._records and self._is_over():
            if not self._keep_tail:
                self.clear()
                return
            self._drop_first()

    def forget(self, durable_positions: NDArray[np.uint64]) -> None:
        """Drops records that a killed server would still have."""
        while self._records:
            rows, steps = self._records[0].held
            if (self._starts[rows] + steps > durable_positions[rows]).any():
                return
            self._drop_first()

    def restart(self, rows: NDArray[np.intp], positions: NDArray[np.uint64]) -> None:
        """Begins anew for some sessions, each at a position: they have got other states."""
        for record in self._records:
            past = record.rows == rows[0] if len(rows) == 1 else np.isin(record.rows, rows)
            record.rows[past] = _TAKEN_OUT
        self._starts[rows] = positions
        self._lost[rows] = False
        self._drop_empty()

    def rewind(self, rows: NDArray[np.intp], positions: NDArray[np.uint64]) -> None:
        """Drops what some sessions consumed past a position each.

        One whose request is cut by its position has nothing left; with a store it begins anew there.
        """
        targets = np.full(len(self._starts), np.iinfo(np.uint64).max, np.uint64)
        targets[rows] = positions
        ends = self._starts.copy()
        for record in self._records:
            of_record, steps = record.held
            ends[of_record] += steps
        for record in reversed(self._records):
            places = np.flatnonzero(record.rows != _TAKEN_OUT)
            past = places[ends[record.rows[places]] > targets[record.rows[places]]]
            ends[record.rows[past]] -= record.steps[past]
            record.rows[past] = _TAKEN_OUT
        cut = rows[ends[rows] != positions]
        if len(cut):
            self.restart(cut, targets[cut])
            self._lost[cut] = not self._keep_tail
        self._drop_empty()

    def of(self, row: int) -> "RowJournal":
        """Returns the journal of one session."""
        return RowJournal(self, row)

    def after(self, row: int, position: int) -> list[Entry] | None:
        """Returns a session's entries from a position on. None: the journal does not have them all."""
        at = start = int(self._starts[row])
        if self._lost[row]:
            return None
        found: list[Entry] = []
        for record in self._records:
            indices = np.flatnonzero(record.rows == row)
            if not len(indices):
                continue
            index = int(indices[0])
            steps = int(record.steps[index])
            if at >= position:
                found.append(Entry(steps, self._cut(record, index)))
            elif at + steps > position:
                return None
            at += steps
        return found if start <= position <= at else None

    def clear(self) -> None:
        """Gives up: nothing can be replayed from here on."""
        self._lost[:] = True
        self._records.clear()
        self._account(-self._bytes)

    def _cut(self, record: _StepRecord, index: int) -> Payload:
        total, rows = int(record.steps.sum()), len(record.rows)
        end = int(record.steps[: index + 1].sum())
        begin = end - int(record.steps[index])
        payload = []
        for spec, column in zip(self._model.inputs, record.columns, strict=True):
            if spec.per_step:
                size = len(column) // total
                payload.append(column[begin * size : end * size])
            else:
                size = len(column) // rows
                payload.append(column[index * size : (index + 1) * size])
        return tuple(payload)

    def _is_over(self) -> bool:
        return self._bytes > self._limit_bytes or self._budget.used_bytes > self._budget.limit_bytes

    def _drop_empty(self) -> None:
        for record in list(self._records):
            if (record.rows == _TAKEN_OUT).all():
                self._records.remove(record)
                self._account(-record.size_bytes)

    def _drop_first(self) -> None:
        first = self._records.popleft()
        rows, steps = first.held
        self._starts[rows] += steps
        self._account(-first.size_bytes)

    def _account(self, size: int) -> None:
        self._bytes += size
        self._budget.used_bytes += size


@dataclass(frozen=True, slots=True)
class RowJournal:
    """One session's part of a group's journal."""

    group: GroupJournal
    row: int

    def append(self, steps: int, payload: Payload) -> None:
        """Adds a request that was applied, which is a step: groups do not generate."""
        assert not isinstance(payload, GeneratePayload)
        self.group.append(np.array([self.row]), np.array([steps], np.uint32), payload)

    def forget(self, durable_position: int) -> None:
        """Does nothing: a group forgets whole requests."""

    def rewind(self, position: int) -> None:
        """Drops what the session consumed past a position."""
        self.group.rewind(np.array([self.row]), np.array([position], np.uint64))

    def restart(self, position: int) -> None:
        """Begins anew at a position: the session has got another state."""
        self.group.restart(np.array([self.row]), np.array([position], np.uint64))

    @property
    def keeps_tail(self) -> bool:
        """Whether a store has what came before the entries."""
        return self.group.keeps_tail

    def after(self, position: int) -> Sequence[Entry] | None:
        """Returns the entries from a position on. None: the journal does not have them all."""
        return self.group.after(self.row, position)

    def clear(self) -> None:
        """Does nothing: the other sessions' inputs are still of use."""
