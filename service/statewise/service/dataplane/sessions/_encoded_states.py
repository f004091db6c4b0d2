"""Holds the initial states that an encoder computed, and the version whose sessions may begin in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from statewise.service.base import Array, RowFailure, ServiceError
from statewise.service.registry import LoadedModel


@dataclass(frozen=True, slots=True)
class EncodedStates:
    """Initial states of the rows of a request.

    Attributes:
        model: The version whose encoder computed them. Sessions of no other version may begin in them.
        state: [rows, *shape] for each state pair.
        failures: Rows that have no state, by row.
    """

    model: LoadedModel
    state: Sequence[Array]
    failures: Mapping[int, RowFailure]

    def of_row(self, row: int) -> list[Array]:
        """Returns the state of a row. Raises the ServiceError of a row that has none."""
        if row in self.failures:
            raise ServiceError(self.failures[row].reason, self.failures[row].message)
        return [array[row] for array in self.state]
