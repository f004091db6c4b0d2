"""The journal of a group: whole frames, from which one session's inputs are cut when they are needed.

Kept a frame at a time because a Python object a row would cost more than the row. Bounded like the journals
of single sessions, and with the same ledger.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.client.sessions._journal import Entry, Generation, Ledger, Payload
from statewise.client.values import ModelInfo

# CPython's own cost of a frame: its record, two arrays' headers, a bytes object.
_FRAME_BYTES = 500


@dataclass(frozen=True, slots=True)
class _Frame:
    rows: NDArray[np.intp]
    steps: NDArray[np.uint32]
    columns: tuple[bytes, ...]
    size_bytes: int


class GroupJournal:
    """What the sessions of a group have consumed since their starts.

    Args:
        model: tells how a frame's columns are cut.
        starts: position of each session's first entry to come, uint64 [sessions].
        limit_bytes: bytes this journal may hold, all sessions together.
        ledger: shared with the other journals of the client.
        keep_tail: as for `Journal`.
    """

    def __init__(
        self,
        model: ModelInfo,
        starts: NDArray[np.uint64],
        *,
        limit_bytes: int,
        ledger: Ledger,
        keep_tail: bool,
    ) -> None:
        self._model = model
        self._starts = starts.copy()
        self._limit_bytes = limit_bytes
        self._ledger = ledger
        self._keep_tail = keep_tail
        self._frames: deque[_Frame] = deque()
        self._bytes = 0
        self._given_up = False

    def append(self, rows: NDArray[np.intp], steps: NDArray[np.uint32], columns: tuple[bytes, ...]) -> None:
        """Adds a request that was applied to `rows`."""
        if self._given_up or not len(rows):
            return
        size = sum(map(len, columns)) + steps.nbytes + _FRAME_BYTES
        self._frames.append(_Frame(rows, steps, columns, size))
        self._account(size)
        while self._frames and self._is_over():
            if not self._keep_tail:
                self.clear()
                return
            self._drop_first()

    def forget(self, durable_positions: NDArray[np.uint64]) -> None:
        """Drops frames that a killed server would still have."""
        while self._frames:
            first = self._frames[0]
            if (self._starts[first.rows] + first.steps > durable_positions[first.rows]).any():
                return
            self._drop_first()

    def of(self, row: int) -> "RowJournal":
        """The journal as one session sees it."""
        return RowJournal(self, row)

    def after(self, row: int, position: int) -> list[Entry] | None:
        """A session's entries from a position on, or None where they are not all held."""
        at = start = int(self._starts[row])
        if self._given_up:
            return None
        found: list[Entry] = []
        for frame in self._frames:
            places = np.flatnonzero(frame.rows == row)
            if not len(places):
                continue
            place = int(places[0])
            steps = int(frame.steps[place])
            if at >= position:
                found.append(Entry(steps, self._cut(frame, place)))
            elif at + steps > position:
                return None
            at += steps
        return found if start <= position <= at else None

    def clear(self) -> None:
        """Gives up: nothing can be replayed from here on."""
        self._given_up = True
        self._frames.clear()
        self._account(-self._bytes)

    def _cut(self, frame: _Frame, place: int) -> Payload:
        total, rows = int(frame.steps.sum()), len(frame.rows)
        end = int(frame.steps[: place + 1].sum())
        begin = end - int(frame.steps[place])
        payload = []
        for spec, column in zip(self._model.inputs, frame.columns, strict=True):
            if spec.per_step:
                size = len(column) // total
                payload.append(column[begin * size : end * size])
            else:
                size = len(column) // rows
                payload.append(column[place * size : (place + 1) * size])
        return tuple(payload)

    def _is_over(self) -> bool:
        return self._bytes > self._limit_bytes or self._ledger.used_bytes > self._ledger.limit_bytes

    def _drop_first(self) -> None:
        first = self._frames.popleft()
        self._starts[first.rows] += first.steps
        self._account(-first.size_bytes)

    def _account(self, size: int) -> None:
        self._bytes += size
        self._ledger.used_bytes += size


@dataclass(frozen=True, slots=True)
class RowJournal:
    """One session's part of a group's journal."""

    group: GroupJournal
    row: int

    def append(self, steps: int, payload: Payload) -> None:
        """Adds a request that was applied. Groups do not generate."""
        assert not isinstance(payload, Generation)
        self.group.append(np.array([self.row]), np.array([steps], np.uint32), payload)

    def forget(self, durable_position: int) -> None:
        """Nothing: a group forgets whole frames."""

    def rewind(self, position: int) -> None:
        """Gives up: frames are not cut apart."""
        self.group.clear()

    def after(self, position: int) -> Sequence[Entry] | None:
        """The entries from a position on, or None where they are not all held."""
        return self.group.after(self.row, position)

    def clear(self) -> None:
        """Nothing: the other sessions' inputs are still of use."""
