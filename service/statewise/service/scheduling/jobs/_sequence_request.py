"""Defines sequences that are to be run, and what they give. Values only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, Indices, RaggedColumns, ServiceError


class SequenceResults(Protocol):
    """Sequences that were run.

    Attributes:
        begun_s: When the first of them began to run, on the scheduler's clock; 0.0: none has.
        ended_s: When the last of them ended, on the scheduler's clock.
    """

    begun_s: float
    ended_s: float

    def results(self) -> tuple[RaggedColumns, list[Array], NDArray[np.bool_]]:
        """Returns outputs, states, and which rows did not fail; all in request order.

        Outputs and states of failed rows are there and mean nothing.
        """


@dataclass(slots=True, eq=False)
class SequenceRequest:
    """Some rows of a request, to be run from given states.

    Attributes:
        inputs: Inputs of the request, with lengths.
        rows: Which rows of the request are run, each of at least one time step; None: all.
        state: In the spec's order, [rows, ...], in the order of `rows`.
        owner: Number of the caller's owner.
        done: Called once, with the results and with the failure of all of it or None; may be called before
            the request is taken.
        is_cancelled: Whether no caller waits any more.
        deadline_s: On the scheduler's clock; None: none.
        begins: Which of the rows are at their beginning, so that they may start behind one that is known;
            None: all are.
        keeps_outputs: Whether outputs that are per step are wanted.
        received_s: When the scheduler took the request, on its clock.
        span: Of the request; None: the request is not traced.
    """

    inputs: RaggedColumns
    rows: Indices | None
    state: Sequence[Array]
    owner: int
    done: Callable[[SequenceResults, ServiceError | None], None]
    is_cancelled: Callable[[], bool]
    deadline_s: float | None
    begins: NDArray[np.bool_] | None = None
    keeps_outputs: bool = True
    received_s: float = 0.0
    span: Any = None

    @property
    def lengths(self) -> NDArray[np.integer[Any]]:
        """Time steps of each row, [rows]."""
        assert self.inputs.lengths is not None, "sequences have lengths"
        return self.inputs.lengths if self.rows is None else self.inputs.lengths[self.rows]
