"""Gives sessions of the small models the state that they are to begin in, where a test opens them itself."""

import numpy as np
from tests.helpers.session_point import Point

from statewise.service.dataplane import Dataplane, InitialStates, given_positions, given_states


def initial_state(dataplane: Dataplane, model: str, point: Point) -> InitialStates | None:
    """Returns the state and the position of one row; None: the model's own, at position 0."""
    if point.state is None:
        return None
    loaded = dataplane.models.find(model)
    given = given_states(loaded, {"state": point.state[None]}, rows=1)
    assert given is not None
    column = np.array([point.position], np.uint64)
    return InitialStates.given(loaded, given, given_positions(column, "positions", rows=1, with_state=True))
