"""Keeps what a session has consumed and generated, so that a lost state can be built again.

A journal is memory of this process, bounded for each session and, through a budget, for the client. A full
journal forgets its oldest entries; the rest is contiguous and ends at the session's position.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from statewise.client.values import InputBytes

# CPython's own cost of an entry: a tuple of two, a tuple of inputs, a bytes object.
_ENTRY_BYTES = 160


@dataclass(frozen=True, slots=True)
class GeneratePayload:
    """A request to generate. From the same state it emits the same values again."""

    steps: int | None
    """Values emitted at most; None: the model's own limit."""
    sampling: bytes
    """How values are drawn: an encoded `Sampling`."""


Payload = InputBytes | GeneratePayload
"""The content of one request of a session."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One applied request of a session."""

    steps: int
    payload: Payload


class JournalProtocol(Protocol):
    """What a session uses of its journal."""

    def append(self, steps: int, payload: Payload) -> None:
        """Adds a request that was applied."""
        ...

    def forget(self, durable_position: int) -> None:
        """Drops entries that a killed server would still have."""
        ...

    def rewind(self, position: int) -> None:
        """Drops entries past a position."""
        ...

    def after(self, position: int) -> Sequence[Entry] | None:
        """Returns the entries from a position on. None: the journal does not have them all."""
        ...

    def restart(self, position: int) -> None:
        """Begins anew at a position: the session has got another state."""
        ...

    def clear(self) -> None:
        """Gives up: nothing can be replayed from here on."""
        ...

    @property
    def keeps_tail(self) -> bool:
        """Whether a store has what came before the entries."""
        ...


@dataclass(slots=True)
class ByteBudget:
    """Bytes that all journals of a client hold together, and may hold at most."""

    limit_bytes: int
    used_bytes: int = 0


class Journal:
    """The requests of one session since `start`.

    Args:
        start: position before the first entry, in time steps.
        limit_bytes: bytes this journal may hold.
        budget: shared with the other journals of the client.
        keep_tail: whether later entries are of use without the earlier ones: only a server with a store can
            resume at the position where they begin.
    """

    __slots__ = ("_budget", "_bytes", "_entries", "_keep_tail", "_limit_bytes", "start")

    def __init__(self, start: int, *, limit_bytes: int, budget: ByteBudget, keep_tail: bool) -> None:
        self.start: int | None = start
        self._limit_bytes = limit_bytes
        self._budget = budget
        self._keep_tail = keep_tail
        self._entries: deque[tuple[int, Payload]] = deque()
        self._bytes = 0

    def append(self, steps: int, payload: Payload) -> None:
        """Adds a request that was applied."""
        if self.start is None:
            return
        size = _size(payload)
        self._entries.append((steps, payload))
        self._bytes += size
        budget = self._budget
        budget.used_bytes += size
        if self._bytes > self._limit_bytes or budget.used_bytes > budget.limit_bytes:
            self._shrink()

    def forget(self, durable_position: int) -> None:
        """Drops entries that a killed server would still have."""
        while (
            self.start is not None and self._entries and self.start + self._entries[0][0] <= durable_position
        ):
            self._drop_first()

    def rewind(self, position: int) -> None:
        """Drops entries past a position; begins there anew if what came right before it is not held.

        Where the tail is of no use, it gives up instead.
        """
        if self.start is None:
            return
        end = self.start + sum(steps for steps, _ in self._entries)
        while self._entries and end > position:
            steps, payload = self._entries.pop()
            end -= steps
            self._account(-_size(payload))
        if end != position:
            self.clear()
            if self._keep_tail:
                self.start = position

    def restart(self, position: int) -> None:
        """Begins anew at a position: the session has got another state."""
        self.clear()
        self.start = position

    @property
    def keeps_tail(self) -> bool:
        """Whether a store has what came before the entries."""
        return self._keep_tail

    def after(self, position: int) -> list[Entry] | None:
        """Returns the entries from a position on. None: the journal does not have them all."""
        if self.start is None:
            return None
        at = self.start
        found: list[Entry] = []
        for steps, payload in self._entries:
            if at >= position:
                found.append(Entry(steps, payload))
            elif at + steps > position:
                return None
            at += steps
        return found if self.start <= position <= at else None

    def clear(self) -> None:
        """Gives up: nothing can be replayed from here on."""
        self._account(-self._bytes)
        self._entries.clear()
        self.start = None

    def _shrink(self) -> None:
        if not self._keep_tail:
            self.clear()
            return
        while self._entries and (
            self._bytes > self._limit_bytes or self._budget.used_bytes > self._budget.limit_bytes
        ):
            self._drop_first()

    def _drop_first(self) -> None:
        assert self.start is not None
        steps, payload = self._entries.popleft()
        self.start += steps
        self._account(-_size(payload))

    def _account(self, size: int) -> None:
        self._bytes += size
        self._budget.used_bytes += size


def _size(payload: Payload) -> int:
    content = len(payload.sampling) if isinstance(payload, GeneratePayload) else sum(map(len, payload))
    return content + _ENTRY_BYTES
