"""Sends requests about sessions, and compares what their replies say with what is expected."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from statewise.service.base import RowFailure
from statewise.service.dataplane import OpenedSession

from .changing_model import Served
from .expected_sessions import ExpectedSessions, Told

Call = Coroutine[Any, Any, None]
Handles = npt.NDArray[np.uint64]


class CheckedCalls:
    """What all requests share.

    Args:
        served: Serves the model.
        expected: The sessions.
        owner: Of all sessions; nobody had one before.
        random: Draws inputs and states.
    """

    def __init__(
        self, served: Served, expected: ExpectedSessions, *, owner: str, random: np.random.Generator
    ) -> None:
        self._served = served
        self._dataplane = served.dataplane
        self._sessions = served.dataplane.sessions
        self._now = served.clock
        self._owner = owner
        self._random = random
        self._expected = expected
        self._touched: set[str] = set()
        """Ids that a request of the burst opens, ends, or finds in use."""

    def _use(self, name: str) -> bool:
        """Notes that a request opens, ends or finds an id; returns whether it is the first of the burst."""
        first = name not in self._touched
        self._touched.add(name)
        return first

    def _addressed(self, rows: Sequence[Any], *, one_version: bool = False) -> list[Any]:
        """Rows of sessions that have, or had, a handle; all of one version, where that is asked for."""
        known = [row for row in rows if self._expected.address(row[0])[0]]
        versions = [self._expected.version_of[row[0]] for row in known]
        return [
            row
            for row, version in zip(known, versions, strict=True)
            if not one_version or version == versions[0]
        ]

    def _call(
        self,
        rows: Sequence[Any],
        expect: Callable[..., Any],
        call: Callable[[Handles, Sequence[Any]], Call],
        *,
        refuse: Callable[[], None] = lambda: None,
    ) -> Call | None:
        """A request about sessions by handle.

        Args:
            rows: A session and what is to be done with it, each.
            expect: Gives what the reply says, of a valid handle.
            call: Sends the request, and compares.
            refuse: Fills what the request says of a row, of a void handle.
        """
        handles: list[int] = []
        expected: list[Any] = []
        for name, *detail in rows:
            handle, reason = self._expected.address(name)
            handles.append(handle)
            if reason:
                refuse()
            expected.append(reason or expect(name, *detail))
        return call(np.array(handles, np.uint64), expected) if rows else None

    def _compare(
        self, expected: Sequence[Told | str], opened: Sequence[OpenedSession], failures: Sequence[RowFailure]
    ) -> None:
        """Compares sessions in a reply, and learns new handles."""
        for told, one in zip(succeeded(expected, failures), opened, strict=True):
            view = one.view
            assert told == Told(
                view.session_id,
                view.position,
                one.keep,
                list(one.kept_positions),
                view.handle if told.handle else 0,
                one.created,
            )
            assert told.handle in (0, view.handle)
            if not told.handle:
                self._expected.by_name[told.name].handle = view.handle


def succeeded(expected: Sequence[Any], failures: Sequence[RowFailure]) -> list[Any]:
    """Compares the failures of a reply; returns what is expected of the other rows."""
    assert {failure.row: failure.reason.value for failure in failures} == {
        row: one for row, one in enumerate(expected) if isinstance(one, str)
    }
    return [one for one in expected if not isinstance(one, str)]
