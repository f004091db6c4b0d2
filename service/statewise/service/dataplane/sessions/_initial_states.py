"""Holds the states that sessions are to begin in, and the version whose sessions may begin in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, RowFailure, ServiceError
from statewise.service.inputs import GivenStates
from statewise.service.registry import LoadedModel
from statewise.wire import Reason


@dataclass(frozen=True, slots=True)
class InitialStates:
    """Initial states of the rows of a request, which an encoder computed or the request gives.

    Attributes:
        model: The version whose states they are. Sessions of no other version may begin in them.
        state: [rows, *shape] for each state pair; or as the request gives them.
        positions: Time steps that the states have consumed, uint64 [rows]; None: 0.
        failures: Rows that have no state, by row.
    """

    model: LoadedModel
    state: Sequence[Array] | GivenStates
    failures: Mapping[int, RowFailure]
    positions: NDArray[np.uint64] | None = None

    @classmethod
    def given(cls, model: LoadedModel, state: GivenStates, positions: NDArray[np.uint64]) -> "InitialStates":
        """Holds the states that a request gives."""
        failures = {row: RowFailure(row, Reason.BAD_TENSOR, why) for row, why in state.failures.items()}
        return cls(model, state, failures, positions)

    def of_row(self, row: int) -> tuple[list[Array], int]:
        """Returns state and position of a row. Raises the ServiceError of a row that has none."""
        if row in self.failures:
            raise ServiceError(self.failures[row].reason, self.failures[row].message)
        if isinstance(self.state, GivenStates):
            state = [array[0] for array in self.state.of_rows(np.array([row], np.intp))]
        else:
            state = [array[row] for array in self.state]
        return state, 0 if self.positions is None else int(self.positions[row])
