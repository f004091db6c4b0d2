"""Keeps the order of a group's requests where they touch the same rows."""

from collections import deque
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from statewise.client.stream import Operation, RequestQueue, Waiter

T = TypeVar("T")
Index = NDArray[np.intp]


class RowTurns:
    """Which rows are in use, and which operations wait for some.

    Args:
        count: rows of the group.
    """

    def __init__(self, count: int) -> None:
        self._busy = np.zeros(count, np.bool_)
        self._waiting: deque[tuple[Waiter, Index]] = deque()

    def acquire(self, rows: Index) -> Operation[None]:
        """Waits until these rows are free and no earlier operation waits."""
        if self._waiting or self._busy[rows].any():
            yield _AcquireRows(self._waiting, rows)

    def hold(self, rows: Index, body: Operation[T]) -> Operation[T]:
        """Runs an operation that has acquired these rows, and then frees them."""
        self._busy[rows] = True
        try:
            return (yield from body)
        finally:
            self._busy[rows] = False
            while self._waiting and not self._busy[self._waiting[0][1]].any():
                self._waiting.popleft()[0].resume(None)


class _AcquireRows:
    """Waits until no earlier operation uses the same rows."""

    __slots__ = ("_rows", "_waiting")

    def __init__(self, waiting: deque[tuple[Waiter, Index]], rows: Index) -> None:
        self._waiting = waiting
        self._rows = rows

    def begin(self, queue: RequestQueue, waiter: Waiter) -> None:
        """Queues this effect."""
        self._waiting.append((waiter, self._rows))

    def withdraw(self, queue: RequestQueue, waiter: Waiter) -> bool:
        """Always succeeds: nothing was sent."""
        kept = [entry for entry in self._waiting if entry[0] is not waiter]
        self._waiting.clear()
        self._waiting.extend(kept)
        return True
