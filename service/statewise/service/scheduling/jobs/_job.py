"""Defines the work that is run slice by slice: a job, a slice of some jobs, and what slices cost.

A job owns its state: no session changes before the job is done, so dropping a job undoes all of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from statewise.service.base import ServiceError
from statewise.service.engine import Engine, RunResult

_J = TypeVar("_J", bound="Job", covariant=True)


@dataclass(frozen=True, slots=True)
class SliceMember(Generic[_J]):
    """A job's share of a slice: its first `rows` active rows, from row `begin` of the run on."""

    job: _J
    rows: int
    begin: int

    @property
    def run_rows(self) -> slice:
        """Its rows of the run."""
        return slice(self.begin, self.begin + self.rows)

    def failed(self, result: RunResult) -> list[int]:
        """Returns which of its rows failed, counted from its own first row."""
        return [row - self.begin for row in result.failed if self.begin <= row < self.begin + self.rows]


@dataclass(frozen=True, slots=True)
class JobSlice(ABC, Generic[_J]):
    """Some rows of some jobs, side by side in one run.

    While a slice runs nothing else reads or writes its jobs, so it may run in any thread.

    Attributes:
        members: The jobs' shares; at least one; all jobs of one kind.
        steps: Time steps at most.
    """

    members: Sequence[SliceMember[_J]]
    steps: int

    @property
    def rows(self) -> int:
        """Rows of the run."""
        last = self.members[-1]
        return last.begin + last.rows

    @property
    @abstractmethod
    def time_steps(self) -> int:
        """Time steps of all rows that the slice runs, at most. Only before it runs."""

    @abstractmethod
    def run(self, engine: Engine, *, batchable: bool) -> RunResult:
        """Runs the slice; `batchable` says whether rows of the read graph may share a run."""

    @abstractmethod
    def distribute(self, engine: Engine, result: RunResult) -> None:
        """Gives every job its results."""


class CostModel(Protocol):
    """What slices of a kind of job cost. Only jobs of one cost model share slices."""

    @property
    def batchable(self) -> bool:
        """Whether rows may share a run."""

    def cost_s(self, rows: int, steps: int) -> float:
        """Returns seconds that a slice of that size will take, roughly."""

    def steps_within(self, seconds: float, rows: int) -> int | None:
        """Returns time steps, at least 1, that a slice of so many rows may have; None: it cannot be cut."""


class Job(ABC):
    """Rows, and how far they have come.

    Args:
        done: Called once, with the job and with the failure of all of it or None.
        is_cancelled: Called between slices.
        deadline_s: On the scheduler's clock; None: none.
    """

    time_steps: int
    """Of all rows together, at most."""
    cost_model: CostModel | None = None
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
        """Time steps that the scheduler's queue counts for this job alone, not with a request's."""
        self.time = 0
        """Time steps that have run."""
        self.received_s = 0.0
        """When the scheduler took the job, on its clock."""
        self.begun_s = 0.0
        """When the first slice began, on the scheduler's clock; 0.0: none has."""
        self.ended_s = 0.0
        """When `done` was called, on the scheduler's clock."""
        self.span: Any = None
        """Of the request that the job belongs to; None: the request is not traced."""

    @property
    @abstractmethod
    def remaining(self) -> int:
        """Time steps that the longest row still has to run."""

    @property
    @abstractmethod
    def active(self) -> int:
        """Rows that still run."""

    @abstractmethod
    def slice_with(self, members: list[SliceMember[Any]], steps: int) -> "JobSlice[Job]":
        """Returns a slice of this job and others of its cost model, of so many time steps at most."""
