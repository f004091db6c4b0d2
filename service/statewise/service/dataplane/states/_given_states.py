"""Resolves the states and positions that a request gives for a version's rows."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, ServiceError
from statewise.service.inputs import GivenStates
from statewise.service.registry import LoadedModel
from statewise.wire import Reason

_LAST_POSITION = 2**63 - 1
"""Positions above would come near the one that stands for none."""


def given_states(model: LoadedModel, named: Mapping[str, Array], *, rows: int) -> GivenStates | None:
    """Checks the states that the rows of a request give; None: it gives none.

    Args:
        model: The version that runs the rows.
        named: As of GivenStates.
        rows: Number of rows.

    Raises:
        ServiceError: WRONG_CALL where the model has no state; else as GivenStates.
    """
    if not named:
        return None
    arena = model.arena
    if not arena.pairs:
        raise ServiceError(
            Reason.WRONG_CALL, f"model {model.package.name!r} has no state: leave the state out"
        )
    return GivenStates(arena.pairs, arena.initial_state, named, rows=rows)


def given_positions(
    positions: NDArray[np.uint64], name: str, *, rows: int, with_state: bool
) -> NDArray[np.uint64]:
    """Returns the positions of states that a request gives, uint64 [rows]; none named: all 0.

    Args:
        positions: As the request has them.
        name: Name of their field.
        rows: Number of rows.
        with_state: Whether the request gives states.

    Raises:
        ServiceError: BAD_REQUEST.
    """
    if not len(positions):
        return np.zeros(rows, np.uint64)
    if not with_state:
        raise ServiceError(Reason.BAD_REQUEST, f"{name}: expected none, as the request gives no state")
    if len(positions) != rows:
        raise ServiceError(Reason.BAD_REQUEST, f"{name}: expected {rows} numbers; got {len(positions)}")
    if int(positions.max()) > _LAST_POSITION:
        raise ServiceError(
            Reason.BAD_REQUEST, f"{name}: expected at most {_LAST_POSITION}; got {positions.max()}"
        )
    return positions
