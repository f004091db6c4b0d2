"""Drives two servers with one store also by programs that give, read and write states, and copy by tokens."""

import numpy as np
from tests.chaos.checkpoint_driver import CheckpointDriver
from tests.chaos.session_driver import OWNER
from tests.chaos.session_model import Copy
from tests.helpers.models.small import HIDDEN
from tests.helpers.session_point import Point, Write, bits

from statewise.service.dataplane import SessionStates


class StateDriver(CheckpointDriver):
    """Runs one program with states."""

    async def begin(self, number: int, name: str, position: int) -> None:
        """Opens an id in a given state: a new session, or the one that is there, as it is."""
        state = self._random.standard_normal(2 * HIDDEN).astype(np.float32)
        await self.open(number, name, Point(position, state))

    async def read(self, number: int, name: str) -> None:
        """Reads a state."""
        copy = self._model.copies[number].get(name)
        if copy is None:
            return
        states = SessionStates.beside(await self._sessions(number))
        found = await states.read(np.array([copy.handle], np.uint64), owner=OWNER)
        outcome = found.failures[0].reason.value if found.failures else found.state["state"].tobytes()
        if await self._expect(number, name, copy, outcome, bits(copy.point.state)):
            assert found.positions.tolist() == [copy.point.position]
        self._model.settled(number)

    async def write(self, number: int, name: str, kind: str, shift: int) -> None:
        """Writes a state: a new one, the last one again, or one for another position."""
        copy = self._model.copies[number].get(name)
        if copy is None:
            return
        write, target = self._written(copy, kind, shift)
        if copy.line.owner == number and target is not copy.point:
            copy.line.stored.append(target)
        states = SessionStates.beside(await self._sessions(number))
        before, after, raw = write
        written, failures = await states.write(
            np.array([copy.handle], np.uint64),
            np.array([before], np.uint64),
            {"state": np.frombuffer(raw, np.float32)[None]},
            np.array([after], np.uint64),
            owner=OWNER,
        )
        reason = failures[0].reason.value if failures else ""
        expected = "POSITION_MISMATCH" if kind == "ahead" else ""
        if await self._expect(number, name, copy, reason, expected) and not expected:
            assert (written[0].view.position, written[0].kept_positions) == (target.position, [])
            copy.point = target
            if copy.line.owner == number:
                copy.line.is_at(target)
        self._model.settled(number)

    def _written(self, copy: Copy, kind: str, shift: int) -> tuple[Write, Point]:
        """A request that writes a state, and where it leads."""
        point = copy.point
        if kind == "again" and point.write is not None and not point.unsure:
            return point.write, point
        state = self._random.standard_normal(2 * HIDDEN).astype(np.float32)
        after = max(point.position + shift, 0)
        if kind == "ahead":
            return (point.position + 1, after, bits(state)), point
        return (point.position, after, bits(state)), point.written(after, state)

    async def token(self, number: int, name: str, twin: str, checkpoints: bool) -> None:
        """Copies a session by a token, perhaps with its checkpoints, under an id that no session has."""
        copy = self._model.copies[number].get(name)
        if copy is None or self._model.lines_of(twin):
            return
        sessions = await self._sessions(number)
        handles = np.array([copy.handle], np.uint64)
        tokens, failures = await sessions.snapshot(handles, owner=OWNER, checkpoints=checkpoints)
        reason = failures[0].reason.value if failures else ""
        if not await self._expect(number, name, copy, reason, ""):
            self._model.settled(number)
            return
        birth, point = self._birth(), Point(*copy.point.present, keep=copy.point.keep)
        named = dict(copy.named) if checkpoints else {}
        line = self._model.opening(number, twin, birth, point)
        line.named = {label: [kept] for label, kept in named.items()}
        restored, failures = await sessions.restore(tokens, [twin], owner=OWNER, births=[birth])
        assert not failures
        view = restored[0].view
        assert (view.position, view.birth) == (point.position, birth)
        self._model.created(number, twin, birth, point, view.handle).is_at(point)
        self._model.copies[number][twin].named = named
        self._model.settled(number)
