"""Sends requests about the states of sessions: present ones, earlier ones, and those that have names."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tests.helpers.arrays import Array
from tests.helpers.models.small import HIDDEN
from tests.helpers.session_point import bits

from statewise.service.dataplane import SessionCheckpoints, StoredCheckpoint

from .checked_calls import Call, CheckedCalls, Handles, succeeded
from .expected_sessions import ExpectedSessions, Named, Told

Expect = Callable[[str, str, int | None], Any]


class StateRequests(CheckedCalls):
    """One method a request, named as in `programs.REQUESTS`."""

    @property
    def _checkpoints(self) -> SessionCheckpoints:
        return SessionCheckpoints.beside(self._sessions)

    def read(self, rows: list[tuple[str]]) -> Call | None:
        """Reads states."""

        async def call(handles: Handles, expected: Sequence[Any]) -> None:
            found = await self._dataplane.session_states.read(handles, owner=self._owner)
            right = succeeded(expected, found.failures)
            assert found.positions.tolist() == [position for position, _ in right]
            if right:
                assert found.state["state"].tobytes() == b"".join(bits(state) for _, state in right)

        return self._call(self._addressed(rows, one_version=True), self._expected.read, call)

    def write(self, rows: list[tuple[str, str, int]]) -> Call | None:
        """Writes states: as they should, sent again, from another position, or not finite."""
        rows = self._addressed(rows, one_version=True)
        states: list[Array] = []
        before: list[int] = []
        after: list[int] = []

        def expect(name: str, kind: str, shift: int) -> Told | str:
            session = self._expected.by_name[name]
            held = session.point.position
            state = self._random.standard_normal(2 * HIDDEN).astype(np.float32)
            start = held + 1 if kind == "ahead" else held
            write = (start, max(start + shift, 0), state.tobytes())
            if kind == "again" and session.written is not None:
                write = session.written
                state = np.frombuffer(write[2], np.float32)
            if kind == "nan" and len(rows) > 1:
                state = np.where(np.arange(2 * HIDDEN) == 3, np.float32(np.nan), state)
            states.append(state)
            before.append(write[0])
            after.append(write[1])
            if np.isnan(state).any():
                session.used_s = self._now()
                return "BAD_TENSOR"
            session.written = write
            return self._expected.write(name, write, state)

        def refuse() -> None:
            states.append(np.zeros(2 * HIDDEN, np.float32))
            before.append(0)
            after.append(0)

        async def call(handles: Handles, expected: Sequence[Any]) -> None:
            written, failures = await self._dataplane.session_states.write(
                handles,
                np.array(before, np.uint64),
                {"state": np.stack(states)},
                np.array([] if after == before else after, np.uint64),
                owner=self._owner,
            )
            self._compare(expected, written, failures)

        return self._call(rows, expect, call, refuse=refuse)

    # --- named checkpoints ---

    def keep(self, rows: list[tuple[str, str, str]]) -> Call | None:
        """Keeps states under names."""
        rows = self._addressed(rows)
        request = _Labelled(rows, self._expected, self._expected.keep)

        async def call(handles: Handles, expected: Sequence[Any]) -> None:
            made, failures = await self._checkpoints.create(
                handles, request.labels, request.positions, owner=self._owner
            )
            _compare_checkpoints(succeeded(expected, failures), made)

        return self._call(rows, request.expect, call, refuse=request.refuse)

    def listing(self, rows: list[tuple[str]]) -> Call | None:
        """Lists checkpoints."""

        async def call(handles: Handles, expected: Sequence[Any]) -> None:
            found, failures = await self._checkpoints.list_all(handles, owner=self._owner)
            for one, checkpoints in zip(succeeded(expected, failures), found, strict=True):
                _compare_checkpoints(one, checkpoints)

        return self._call(self._addressed(rows), self._expected.listing, call)

    def drop(self, rows: list[tuple[str, int]]) -> Call | None:
        """Drops checkpoints."""
        named = [(name, self._expected.label(name, number)) for name, number in self._addressed(rows)]
        labels = [label for _, label in named]

        async def call(handles: Handles, expected: Sequence[Any]) -> None:
            succeeded(expected, await self._checkpoints.delete(handles, shortened(labels), owner=self._owner))

        return self._call(named, self._expected.drop, call)

    def go_to(self, rows: list[tuple[str, int, str]]) -> Call | None:
        """Goes to checkpoints."""
        found = self._addressed(rows)
        named = [(name, self._expected.label(name, number), place) for name, number, place in found]
        request = _Labelled(named, self._expected, self._expected.go_to)

        async def call(handles: Handles, expected: Sequence[Any]) -> None:
            gone, failures = await self._checkpoints.go_to(
                handles, request.labels, request.positions, owner=self._owner
            )
            self._compare(expected, gone, failures)

        return self._call(named, request.expect, call, refuse=request.refuse)

    def rewind(self, rows: list[tuple[str, int | None]]) -> Call | None:
        """Takes requests back, or asks for a position that is not kept."""
        positions: list[int] = []

        def expect(name: str, requests: int | None) -> Told | str:
            point = self._expected.by_name[name].point
            far = point.position + 1
            positions.append(far if requests is None else point.rewound(requests).position)
            return self._expected.rewind(name, positions[-1])

        async def call(handles: Handles, expected: Sequence[Any]) -> None:
            column = np.array(positions, np.uint64)
            rewound, failures = await self._sessions.rewind(handles, column, owner=self._owner)
            self._compare(expected, rewound, failures)

        return self._call(self._addressed(rows), expect, call, refuse=lambda: positions.append(0))


class _Labelled:
    """What a request about checkpoints says of its rows. Either all have a position or none.

    Args:
        rows: Session, name of a checkpoint, and whether the position is right, each.
        sessions: Give the positions.
        expect: Gives what the reply says of a row.
    """

    def __init__(
        self, rows: Sequence[tuple[str, str, str]], sessions: ExpectedSessions, expect: Expect
    ) -> None:
        self.labels = shortened([label for _, label, _ in rows])
        self._anywhere = [place for _, _, place in rows[:1]] == ["any"]
        self._sessions = sessions
        self._expect = expect
        self._positions: list[int] = []

    @property
    def positions(self) -> Handles | None:
        """The column of positions, once all rows are there."""
        return None if self._anywhere else np.array(self._positions, np.uint64)

    def expect(self, name: str, label: str, place: str) -> Any:
        """What the reply says of a row."""
        position = self._sessions.by_name[name].point.position + (place == "ahead")
        self._positions.append(position)
        return self._expect(name, label, None if self._anywhere else position)

    def refuse(self) -> None:
        """Fills the row of a void handle."""
        self._positions.append(0)


def shortened(labels: list[str]) -> list[str]:
    """One name for all rows, where all are the same."""
    return labels[:1] if len(set(labels)) == 1 else labels


def _compare_checkpoints(expected: Sequence[Named], checkpoints: Sequence[StoredCheckpoint]) -> None:
    assert list(expected) == [Named(one.name, one.position, one.state, one.origin) for one in checkpoints]
