"""What the scheduler's lane of long work runs piece by piece: work, its share of a piece, and the piece.

Not when it runs (scheduler). Work owns its state: nothing of a session changes before it is done, so giving
it up restores everything.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from statewise.service.base import ServiceError
from statewise.service.engine import Engine, RunResult

_W = TypeVar("_W", bound="Job", covariant=True)


@dataclass(frozen=True, slots=True)
class SliceMember(Generic[_W]):
    """Work's share of a piece: its first `rows` active rows, from row `begin` of the run on."""

    job: _W
    rows: int
    begin: int


class JobSlice(Protocol):
    """Some rows of some work, side by side in one run. While it runs, its work is in nobody else's hands."""

    @property
    def parts(self) -> "Sequence[SliceMember[Job]]":
        """At least one; all of the kind of the first."""

    @property
    def rows(self) -> int:
        """Rows of the run."""

    @property
    def steps(self) -> int:
        """Time steps at most."""

    def run(self, engine: Engine, *, together: bool) -> RunResult:
        """Runs it, in any thread; `together` says whether rows of the read graph may share a run."""

    def share_out(self, engine: Engine, result: RunResult) -> None:
        """Gives all work its results."""


class CostModel(Protocol):
    """What pieces of a kind of work cost. Work of one pace may share pieces."""

    @property
    def together(self) -> bool:
        """Whether rows may share a run."""

    def cost_s(self, rows: int, steps: int) -> float:
        """Seconds a piece of that size will take, roughly."""

    def steps_within(self, seconds: float, rows: int) -> int | None:
        """Time steps, at least 1, that a piece of so many rows may have; None: it cannot be cut."""


class Job(ABC):
    """Rows, and how far they have come.

    Args:
        done: Called once, with the work and the failure of all of it or None.
        is_cancelled: Asked between pieces.
        deadline_s: On the scheduler's clock; None: none.
    """

    time_steps: int
    """Of all rows together, at most."""
    pace: CostModel | None = None
    """None: that of the read graph."""

    def __init__(
        self,
        *,
        done: Callable[[Any, ServiceError | None], None],
        is_cancelled: Callable[[], bool],
        deadline_s: float | None,
    ) -> None:
        self.done = done
        self.is_cancelled = is_cancelled
        self.deadline_s = deadline_s
        self.queued_steps = 0
        """Time steps that the scheduler's queue counts for this work alone, not with a request's."""
        self.time = 0
        """Time steps behind it."""
        self.received_s = 0.0
        """When it was asked for, on the scheduler's clock."""
        self.begun_s = 0.0
        """When its first piece began, on the scheduler's clock."""
        self.span: Any = None
        """Of the request that it belongs to; None: it is not traced."""
        self.ended_s = 0.0
        """When `done` was called, on the scheduler's clock."""

    @property
    @abstractmethod
    def remaining(self) -> int:
        """Time steps that the longest row still has to run."""

    @property
    @abstractmethod
    def active(self) -> int:
        """Rows that still run."""

    @abstractmethod
    def piece(self, parts: list[SliceMember[Any]], steps: int) -> JobSlice:
        """A piece of this work and others of its pace, of so many time steps at most."""
