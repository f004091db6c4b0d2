"""Keeps one session of `SumServer`: its state, those from before its last requests, and those under names."""

from dataclasses import dataclass, field, replace
from typing import Any

from statewise.v1 import sequence_pb2


@dataclass
class HeldSession:
    """A session on the server. A state is a position and a total."""

    handle: int
    position: int = 0
    total: int = 0
    birth: int = 0
    holder: int = 0
    epoch: int = 0
    durability: sequence_pb2.Durability.ValueType = sequence_pb2.DURABILITY_UNSPECIFIED
    keep: int = 1
    before: tuple[int, int, tuple[object, ...]] | None = None
    """State before the last request, and its input."""
    older: tuple[tuple[int, int], ...] = ()
    """States before the requests before that, the earliest first."""
    written: tuple[object, ...] | None = None
    """The request that wrote the state, while nothing has come after it."""
    named: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Checkpoints."""

    def copied(self, **changed: Any) -> "HeldSession":
        """Returns a copy that shares nothing with this one."""
        return replace(self, named=dict(self.named), **changed)

    def began(self, mine: tuple[object, ...]) -> None:
        """Notes that a request begins: the state before it is kept."""
        if self.before is not None:
            self.older = (*self.older, self.before[:2])
        self.older = self.older[max(len(self.older) - self.keep + 1, 0) :]
        self.before = (self.position, self.total, mine)
        self.written = None

    def repeats(self, position: int, mine: tuple[object, ...]) -> bool:
        """Goes back to before the last request, if this one repeats it."""
        if self.before is None or self.before[0] != position or self.before[2] != mine:
            return False
        self.position, self.total, _ = self.before
        return True

    def change(self, position: int, total: int, written: tuple[object, ...] | None = None) -> None:
        """Takes another state, after which nothing from before it is kept."""
        self.position, self.total, self.written = position, total, written
        self.before, self.older = None, ()
        self.epoch += 1

    def rewind(self, position: int) -> bool:
        """Goes to a position that is kept; returns whether one is."""
        kept = [*self.older, *([] if self.before is None else [self.before[:2]])]
        for index, (at, total) in enumerate(kept):
            if at == position:
                self.change(at, total)
                self.older = tuple(kept[:index])
                return True
        return False

    @property
    def kept_positions(self) -> list[int]:
        """Positions that it can be taken back to, the earliest first."""
        return [at for at, _ in self.older] + ([] if self.before is None else [self.before[0]])

    @property
    def kept_totals(self) -> tuple[int, ...]:
        """Totals at these positions."""
        return tuple(total for _, total in self.older) + (() if self.before is None else (self.before[1],))
