"""Says what the inputs of a group's sessions began from, without an object for each session."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from statewise.client.requests import Beginnings
from statewise.client.sessions import INITIAL, Origin

OriginSource = Callable[[str, int], Origin]
"""Gives the origin of a session by its id and its number in the source."""

_FEW_SOURCES = 16


def origins_of(beginnings: Beginnings | None) -> OriginSource:
    """Returns the origins of sessions that were opened together; None: in the model's initial state."""
    if beginnings is None:
        return lambda *_: INITIAL
    return lambda session_id, number: Origin.of_request(beginnings.request([session_id], number))


def source_of(origin: Origin) -> OriginSource:
    """Returns the source of one session's origin."""
    return lambda *_: origin


class RowOrigins:
    """The origin of each session of a group.

    Args:
        source: of the sessions, in order.
        known: the sessions that began there, bool [sessions].
    """

    def __init__(self, source: OriginSource, known: NDArray[np.bool_]) -> None:
        self._sources = [source]
        self._source_of = np.where(known, 0, -1)
        """[sessions]; -1: this client cannot open the session anew."""
        self._numbers = np.arange(len(known))
        self._most_sources = _FEW_SOURCES

    def of(self, row: int, session_id: str) -> Origin | None:
        """Returns the origin of one session."""
        source = int(self._source_of[row])
        return None if source < 0 else self._sources[source](session_id, int(self._numbers[row]))

    def set(self, rows: NDArray[np.intp], source: OriginSource | None) -> None:
        """Gives sessions another origin, numbered in the order of `rows`; None: it is unknown."""
        self._source_of[rows] = -1 if source is None else len(self._sources)
        self._numbers[rows] = np.arange(len(rows))
        if source is not None:
            self._sources.append(source)
        if len(self._sources) > self._most_sources:
            self._drop_unused()
            self._most_sources = max(2 * len(self._sources), _FEW_SOURCES)

    def _drop_unused(self) -> None:
        used, numbered = np.unique(self._source_of, return_inverse=True)
        unknown = int(used[0] < 0)
        self._sources = [self._sources[number] for number in used[unknown:].tolist()]
        self._source_of = numbered.reshape(-1) - unknown
