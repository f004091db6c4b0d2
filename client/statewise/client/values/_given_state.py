"""Reads the states that callers give, and splits those that servers give into their parts.

A state is named whole, or by its parts. What the model's description tells is checked here. Whether numbers
are finite is for the server to judge: it knows the model's own initial state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.client.values._arguments import brief, wrong
from statewise.client.values._elements import UnfitError, as_elements
from statewise.client.values._errors import InternalError, InvalidInput, NotImplementedByServer
from statewise.client.values._info import ModelInfo
from statewise.client.values._inputs import Array
from statewise.client.values._state_info import StateInfo, sections_of
from statewise.v1 import tensor_pb2
from statewise.wire import DTYPES, from_tensor, to_tensor

StateValue = Mapping[str, Any]
"""What callers give: arrays by the name of a state or of a part."""


@dataclass(frozen=True, slots=True)
class GivenState:
    """States for rows in a fixed order: [1, ...] for all of them, or one each, by name."""

    arrays: dict[str, Array]

    @property
    def row_bytes(self) -> int:
        """Bytes that every row adds to a request."""
        return sum(array.nbytes // len(array) for array in self.arrays.values() if len(array) > 1)

    @property
    def shared_bytes(self) -> int:
        """Bytes that a request has once."""
        return sum(array.nbytes for array in self.arrays.values() if len(array) == 1)

    def of_rows(self, rows: NDArray[np.intp]) -> "GivenState":
        """Returns the states of some rows."""
        return GivenState(
            {name: array if len(array) == 1 else array[rows] for name, array in self.arrays.items()}
        )

    def fill(self, tensors: Any, begin: int, end: int) -> None:
        """Puts the states of rows `begin` to `end` (exclusive) into a request's map of tensors."""
        for name, array in self.arrays.items():
            tensors[name].CopyFrom(to_tensor(array if len(array) == 1 else array[begin:end]))


def given_state(model: ModelInfo, value: object, *, count: int | None = None) -> GivenState:
    """Reads a caller's states.

    Args:
        model: the version that they are for.
        value: a dict of arrays by the name of a state or of a part.
        count: number of rows, for each of which there may be an array; None: a single row.

    Raises:
        InvalidInput: it is no such dict, or an array of it does not fit the model.
        NotImplementedByServer: the server is older than given states.
    """
    check_states_known(model)
    if not model.states:
        raise wrong("state", f"None, as model {model.name!r} keeps no state", value)
    if not isinstance(value, Mapping) or not value:
        raise wrong("state", "a dict of arrays by the name of a state or part", value)
    arrays = {}
    for name, element in value.items():
        dtype, shape = _spec_of(model, name)
        arrays[name] = _read(model, name, element, dtype, shape, count)
    for state in model.states:
        part = next((part.name for part in state.parts if part.name in arrays), state.name)
        if state.name in arrays and part != state.name:
            raise InvalidInput(
                f"state: expected {state.name!r} whole or by its parts; got both, with {part!r}"
            )
    return GivenState(arrays)


def check_states_known(model: ModelInfo) -> None:
    """Raises NotImplementedByServer where the server keeps states of the model and does not describe them."""
    if model.state_bytes and not model.states:
        raise NotImplementedByServer("the server is older than states that are given, read and written")


def missing_states(model: ModelInfo, given: GivenState) -> tuple[StateInfo, ...]:
    """Returns the states of which elements are not given."""
    return tuple(state for state in model.states if not _is_whole(state, given))


def merged_state(model: ModelInfo, given: GivenState, rest: Mapping[str, Array]) -> GivenState:
    """Returns whole states: what is given, and the rest from other ones.

    Args:
        model: the version.
        given: states and parts.
        rest: whole states [rows, ...], by name.
    """
    whole: dict[str, Array] = {}
    for state in model.states:
        if state.name in given.arrays:
            whole[state.name] = given.arrays[state.name]
            continue
        parts = [(part, given.arrays[part.name]) for part in state.parts if part.name in given.arrays]
        rows = max([len(array) for _, array in parts], default=1)
        rows = max(rows, len(rest[state.name])) if state.name in rest else rows
        flat = np.zeros((rows, state.size), DTYPES[state.dtype])
        if state.name in rest:
            flat[:] = rest[state.name].reshape(len(rest[state.name]), state.size)
        for part, array in parts:
            flat[:, part.offset : part.offset + part.size] = array
        whole[state.name] = flat.reshape(rows, *state.shape)
    return GivenState(whole)


def read_states(model: ModelInfo, tensors: Mapping[str, tensor_pb2.Tensor], rows: int) -> dict[str, Array]:
    """Reads whole states [rows, ...] by name, writable.

    Raises:
        InternalError: one is missing or of another shape.
    """
    return _read_states(model, tensors, (rows,))


def read_own_state(model: ModelInfo, tensors: Mapping[str, tensor_pb2.Tensor]) -> dict[str, Array]:
    """Reads the whole states [...] of one session, and splits them into their parts.

    Raises:
        InternalError: one is missing or of another shape.
    """
    states = {name: array[None] for name, array in _read_states(model, tensors, ()).items()}
    return {name: array[0] for name, array in by_part(model, states).items()}


def by_part(model: ModelInfo, states: Mapping[str, Array]) -> dict[str, Array]:
    """Splits whole states [rows, ...] into their parts [rows, size]; a state without parts stays whole."""
    split: dict[str, Array] = {}
    for name, sections in sections_of(model.states).items():
        array = states[name]
        if [section.name for section in sections] == [name]:
            split[name] = array
            continue
        flat = array.reshape(len(array), -1)
        for part in sections:
            split[part.name] = flat[:, part.offset : part.offset + part.size].copy()
    return split


def _read_states(
    model: ModelInfo, tensors: Mapping[str, tensor_pb2.Tensor], axes: tuple[int, ...]
) -> dict[str, Array]:
    """Reads whole states [*axes, ...]."""
    arrays = {}
    for state in model.states:
        if state.name not in tensors:
            raise InternalError(f"a reply without state {state.name!r}")
        array = arrays[state.name] = from_tensor(tensors[state.name]).copy()
        if array.shape != (*axes, *state.shape):
            raise InternalError(f"a reply whose state {state.name!r} has shape {list(array.shape)}")
    return arrays


def _is_whole(state: StateInfo, given: GivenState) -> bool:
    if state.name in given.arrays:
        return True
    covered = np.zeros(state.size, np.bool_)
    for part in state.parts:
        if part.name in given.arrays:
            covered[part.offset : part.offset + part.size] = True
    return bool(covered.all())


def _spec_of(model: ModelInfo, name: Any) -> tuple[str, tuple[int, ...]]:
    """Returns type and shape of the state, or else of the part, of that name."""
    for state in model.states:
        if state.name == name:
            return state.dtype, state.shape
    named = [(state, part) for state in model.states for part in state.parts if part.name == name]
    if len(named) == 1:
        return named[0][0].dtype, (named[0][1].size,)
    names = [state.name for state in model.states]
    names += [part.name for state in model.states for part in state.parts]
    known = ", ".join(map(repr, names))
    raise InvalidInput(f"state: expected names of model {model.name!r}, {known}; got {brief(name)}")


def _read(
    model: ModelInfo, name: str, value: object, dtype: str, shape: tuple[int, ...], count: int | None
) -> Array:
    several = "" if count is None else f", or {[count, *shape]}, one for each"
    fitting = f"state {name!r} of model {model.name!r}: expected {dtype} {list(shape)}{several}"
    try:
        array = as_elements(value, DTYPES[dtype])
    except UnfitError as unfit:
        place = f" at element {list(unfit.index)}" if unfit.index else ""
        if unfit.expected is None:
            raise InvalidInput(f"{fitting}; got {unfit.got}{place}") from None
        raise InvalidInput(f"state {name!r}: expected {unfit.expected}; got {unfit.got}{place}") from None
    if array.shape == shape:
        array = array[None]
    elif count is None or array.shape != (count, *shape):
        raise InvalidInput(f"{fitting}; got {array.dtype.name} of shape {list(array.shape)}")
    # A copy: the caller may write into the array while it is still needed to build a lost state again.
    return array.copy()
