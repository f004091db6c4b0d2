"""Checks states that a request gives, and puts them in place of the states that a model has of itself.

A request names a whole state, or a named part of one. What it does not name stays as it is. Values stay as
they came, also one for all rows, until the states of some rows are asked for.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, Indices, ServiceError
from statewise.wire import DTYPES, Reason, StatePair

_NAMES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class _Section:
    """Some elements of a state, counted in row-major order; all of them where a request names the state."""

    name: str
    pair: int
    elements: slice
    shape: tuple[int, ...]


class GivenStates:
    """States that the rows of a request give.

    Args:
        pairs: The model's states.
        initial: The model's own initial states, [*shape] each.
        named: By the name of a state or of a part: [rows, *shape], or [1, *shape] for all rows.
        rows: Rows of the request.

    Raises:
        ServiceError: BAD_TENSOR for a name that the model does not have, another type or shape, a state named
            whole and by a part, a value for all rows that is not finite where the model's own is.
    """

    def __init__(
        self,
        pairs: Sequence[StatePair],
        initial: Sequence[Array],
        named: Mapping[str, Array],
        *,
        rows: int,
    ) -> None:
        self._pairs = pairs
        self._initial = initial
        self.rows = rows
        self.failures: dict[int, str] = {}
        """Why a row cannot begin in its state, by row: it has a number that is not finite."""
        known = _sections(self._pairs)
        sections = [_known(known, name) for name in named]
        sections.sort(key=lambda one: (one.pair, one.elements.start))
        _refuse_whole_and_part(sections, self._pairs)
        self._given: list[tuple[_Section, Array]] = []
        for section in sections:
            values = self._arranged(section, named[section.name])
            self._given.append((section, values))
            self._note_nonfinite(section, values)

    def of_rows(self, rows: Indices) -> list[Array]:
        """Returns the states of some rows, [len(rows), *shape] each; what is not named is the model's own."""
        state = [np.repeat(initial[None], len(rows), axis=0) for initial in self._initial]
        for section, values in self._given:
            own = values if len(values) == 1 else values[rows]
            elements = self._initial[section.pair].size
            state[section.pair].reshape(len(rows), elements)[:, section.elements] = own
        return state

    def take(self, rows: Indices) -> "GivenStates":
        """Returns the same of some rows, which are numbered anew."""
        taken = copy(self)
        taken.rows = len(rows)
        taken._given = [
            (section, values if len(values) == 1 else values[rows]) for section, values in self._given
        ]
        taken.failures = {
            at: self.failures[row] for at, row in enumerate(rows.tolist()) if row in self.failures
        }
        return taken

    def write_row(self, row: int, state: Sequence[Array]) -> None:
        """Writes what a row gives into a state, one contiguous array [*shape] or [1, *shape] each."""
        for section, values in self._given:
            own = values[row if len(values) > 1 else 0]
            state[section.pair].reshape(-1)[section.elements] = own

    def unchanged(self) -> NDArray[np.bool_]:
        """Returns which states of rows have the bits of the model's own initial one, bool [rows, states]."""
        same = np.ones((self.rows, len(self._pairs)), np.bool_)
        for section, values in self._given:
            initial = self._initial[section.pair].reshape(-1)[section.elements]
            same[:, section.pair] &= rows_with_bits_of(values, initial)
        return same

    @property
    def columns(self) -> list[Array]:
        """What the rows give, in the model's order: [rows, elements] each, or [1, elements] for all rows."""
        return [values for _, values in self._given]

    @property
    def names(self) -> tuple[str, ...]:
        """Names that the request gives, in the model's order."""
        return tuple(section.name for section, _ in self._given)

    def _arranged(self, section: _Section, array: Array) -> Array:
        """Returns [rows or 1, elements]. Raises ServiceError (BAD_TENSOR)."""
        pair = self._pairs[section.pair]
        if array.dtype != DTYPES[pair.dtype]:
            raise _bad(f"state {section.name!r}: expected {pair.dtype}; got {array.dtype.name}")
        if array.shape not in ((self.rows, *section.shape), (1, *section.shape)):
            one = "" if self.rows == 1 else f", or {[1, *section.shape]} for all rows"
            expected = f"{[self.rows, *section.shape]}{one}"
            raise _bad(f"state {section.name!r}: expected shape {expected}; got {list(array.shape)}")
        return array.reshape(len(array), -1)

    def _note_nonfinite(self, section: _Section, values: Array) -> None:
        """Notes rows with numbers that are not finite. Raises ServiceError where they are for all rows."""
        if values.dtype.kind != "f" or np.isfinite(values).all():
            return
        initial = self._initial[section.pair].reshape(-1)[section.elements]
        wrong = ~np.isfinite(values) & np.isfinite(initial)
        for row in np.flatnonzero(wrong.any(axis=1)).tolist():
            element = int(wrong[row].argmax())
            place = [int(axis) for axis in np.unravel_index(element, section.shape or (1,))]
            got = f"{values[row, element]} at element {place}{self._part_at(section, element)}"
            why = f"state {section.name!r}: expected finite numbers; got {got}"
            if len(values) < self.rows:
                raise _bad(why)
            self.failures.setdefault(row, why)

    def _part_at(self, section: _Section, element: int) -> str:
        """Names an element of a whole state by its part, which the caller may have given alone."""
        pair = self._pairs[section.pair]
        for part in pair.parts if section.name == pair.input else ():
            if part.offset <= element < part.offset + part.size:
                return f", {part.name}[{element - part.offset}]"
        return ""


def rows_with_bits_of(rows: Array, one: Array) -> NDArray[np.bool_]:
    """Returns which rows [N, ...] have the same bits as `one` [...], bool [N]."""
    own = np.ascontiguousarray(rows).reshape(len(rows), one.size).view(np.uint8)
    return np.asarray((own == np.ascontiguousarray(one).reshape(1, -1).view(np.uint8)).all(axis=1))


def _sections(pairs: Sequence[StatePair]) -> dict[str, _Section]:
    """Returns what requests may name: states, and parts that have a name of their own."""
    names = Counter(part.name for pair in pairs for part in pair.parts)
    found = {
        part.name: _Section(part.name, number, slice(part.offset, part.offset + part.size), (part.size,))
        for number, pair in enumerate(pairs)
        for part in pair.parts
        if names[part.name] == 1
    }
    whole = slice(0, None)
    return found | {pair.input: _Section(pair.input, n, whole, pair.shape) for n, pair in enumerate(pairs)}


def _known(known: Mapping[str, _Section], name: str) -> _Section:
    if name in known:
        return known[name]
    names = sorted(known, key=lambda one: known[one].pair)
    shown = ", ".join(map(repr, names[:_NAMES_SHOWN])) + (", ..." if len(names) > _NAMES_SHOWN else "")
    raise _bad(f"the model has no state {name!r}; expected: {shown}")


def _refuse_whole_and_part(sections: Sequence[_Section], pairs: Sequence[StatePair]) -> None:
    whole = {section.pair for section in sections if section.name == pairs[section.pair].input}
    for section in sections:
        name = pairs[section.pair].input
        if section.pair in whole and section.name != name:
            raise _bad(
                f"state {name!r} is named whole and by its part {section.name!r}; expected one of them"
            )


def _bad(message: str) -> ServiceError:
    return ServiceError(Reason.BAD_TENSOR, message)
