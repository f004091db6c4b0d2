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


@dataclass(frozen=True, slots=True)
class _StepRecord:
    rows: NDArray[np.intp]
    steps: NDArray[np.uint32]
    columns: tuple[bytes, ...]
    size_bytes: int


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
        self._given_up = False

    def append(self, rows: NDArray[np.intp], steps: NDArray[np.uint32], columns: tuple[bytes, ...]) -> None:
        """Adds a request that was applied to `rows`."""
        if self._given_up or not len(rows):
            return
        size = sum(map(len, columns)) + steps.nbytes + _RECORD_BYTES
        self._records.append(_StepRecord(rows, steps, columns, size))
        self._account(size)
        while self._records and self._is_over():
            if not self._keep_tail:
                self.clear()
                return
            self._drop_first()

    def forget(self, durable_positions: NDArray[np.uint64]) -> None:
        """Drops records that a killed server would still have."""
        while self._records:
            first = self._records[0]
            if (self._starts[first.rows] + first.steps > durable_positions[first.rows]).any():
                return
            self._drop_first()

    def of(self, row: int) -> "RowJournal":
        """Returns the journal of one session."""
        return RowJournal(self, row)

    def after(self, row: int, position: int) -> list[Entry] | None:
        """Returns a session's entries from a position on. None: the journal does not have them all."""
        at = start = int(self._starts[row])
        if self._given_up:
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
        self._given_up = True
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

    def _drop_first(self) -> None:
        first = self._records.popleft()
        self._starts[first.rows] += first.steps
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
        """Gives up: requests are not cut apart."""
        self.group.clear()

    def after(self, position: int) -> Sequence[Entry] | None:
        """Returns the entries from a position on. None: the journal does not have them all."""
        return self.group.after(self.row, position)

    def clear(self) -> None:
        """Does nothing: the other sessions' inputs are still of use."""
