"""Defines the requests of sessions that a scheduler queues: batches of steps, and barriers between them.

Values only; the scheduler decides when they run and calls `reply` exactly once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.service.base._errors import RowFailure, ServiceError
from statewise.service.base._types import Array, Handles, Slots


@dataclass(frozen=True, slots=True)
class StepResult:
    """The answer to a step batch.

    Attributes:
        outputs: By name, of the rows that succeeded: per-step [sum(steps), ...], others [rows, ...].
        failures: Failures of the other rows, to which nothing was applied.
        durable_positions: Up to which positions the sessions of the rows that succeeded are stored; None:
            there is no store.
    """

    outputs: Mapping[str, Array]
    failures: Sequence[RowFailure]
    durable_positions: NDArray[np.uint64] | None = None


@dataclass(slots=True, eq=False)
class StepBatch:
    """One step request: rows of sessions of one model version, no session twice.

    Attributes:
        handles: uint64 [rows].
        positions: Start positions, uint64 [rows].
        steps: Time steps of each row, uint32 [rows]; None: 1 each.
        inputs: In the spec's order: per-step [sum(steps), ...], others [rows, ...].
        owner: Number of the caller's owner.
        deadline_s: On the scheduler's clock; None: none.
        reply: Takes the result, or the failure of the whole batch.
        cancelled: Set when the caller no longer waits for the result.
        time_steps: sum(steps).
        answered: Whether `reply` has been called.
        received_s: When the scheduler took the batch, on its clock.
        begun_s: When the first run began, on the scheduler's clock; 0.0: none has.
        request_id: The caller's number of the request; 0: none.
        output_bytes: Bytes of the outputs of all rows.
        span: Span of the request; None: the request is not traced.
    """

    handles: Handles
    positions: NDArray[np.uint64]
    steps: NDArray[np.uint32] | None
    inputs: list[Array]
    owner: int
    deadline_s: float | None
    reply: Callable[[StepResult | ServiceError], None]
    cancelled: bool = False
    answered: bool = False
    received_s: float = 0.0
    begun_s: float = 0.0
    request_id: int = 0
    output_bytes: int = 0
    span: Any = None
    time_steps: int = field(init=False)

    def __post_init__(self) -> None:
        self.time_steps = len(self.handles) if self.steps is None else int(self.steps.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Barrier:
    """An operation on sessions that runs after all that was submitted for them before has run.

    Attributes:
        slots: Slots of the sessions.
        action: Runs on the event loop; must not raise.
    """

    slots: Slots
    action: Callable[[], None]
