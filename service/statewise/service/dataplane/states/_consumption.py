"""Tells which rows have consumed nothing yet, and which have nothing to generate from.

Position and state alone decide: two sessions that are equal in both generate the same, however they came
there.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array
from statewise.service.inputs import rows_with_bits_of
from statewise.service.registry import LoadedModel


def unchanged_states(model: LoadedModel, state: Sequence[Array]) -> NDArray[np.bool_]:
    """Returns which states of rows have the bits of the model's own initial one, bool [rows, states]."""
    columns = [rows_with_bits_of(own, one) for own, one in zip(state, model.arena.initial_state, strict=True)]
    return np.stack(columns, axis=1)


def consumed_nothing(
    model: LoadedModel, positions: NDArray[np.uint64], unchanged: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Returns which rows have consumed nothing yet, and begin with the begin token, bool [rows].

    They are at position 0, in the model's own initial state. States that encoders compute are all different:
    with an encoder the position alone tells.

    Args:
        model: The rows' version.
        positions: Time steps that they have consumed, [rows].
        unchanged: As `unchanged_states` returns it.
    """
    at_zero = positions == 0
    return np.asarray(at_zero if model.auxiliary.encoder is not None else at_zero & unchanged.all(axis=1))


def lack_a_start(
    model: LoadedModel, positions: NDArray[np.uint64], unchanged: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Returns which rows have nothing that they could generate from, bool [rows]. Arguments as above."""
    codec, generator = model.auxiliary.codec, model.require_generator()
    begins = codec is not None and codec.begin is not None
    encoded = model.auxiliary.encoder is not None and generator.spec.graph
    empty = consumed_nothing(model, positions, unchanged)
    lacking = np.zeros(len(positions), np.bool_) if begins or encoded else empty
    if generator.spec.graph:
        return lacking
    # The server feeds the last output back, and probabilities are never all 0.
    without_output = unchanged[:, -1] & (generator.spec.sampled | (positions == 0)) & ~empty
    return np.asarray(lacking | without_output)
