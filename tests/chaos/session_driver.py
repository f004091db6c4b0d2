"""Drives two servers with one store by random programs, and compares every answer with a model's."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from tests.chaos.mortal_servers import IDLE_TIMEOUT_S, MortalServer
from tests.chaos.session_model import VOID, Copy, SessionModel
from tests.helpers.arrays import Array
from tests.helpers.initial_state import initial_state
from tests.helpers.models.small import SmallModel
from tests.helpers.session_point import Point
from tests.service.stores.stopping_files import Stopped

from statewise.service import ServiceError
from statewise.service.base import StepResult
from statewise.service.dataplane import OpenedSession, SessionCheckpoints, SessionStates
from statewise.service.dataplane.sessions import Sessions
from statewise.service.stores.redis import RedisOptions

OWNER = "ann"
SERVER = st.integers(0, 1)
NAME = st.sampled_from(["a", "b", "c"])
LABEL = st.sampled_from(["red", "blue"])
KINDS = ["now", "now", "now", "twice", "again", "older", "ahead", "void"]
OPERATIONS = {
    "step": st.tuples(NAME, st.sampled_from(KINDS), st.sampled_from([1, 1, 1, 2, 7, 40])),
    "open": st.tuples(NAME),
    "resume": st.tuples(NAME),
    "rewind": st.tuples(NAME, st.sampled_from([1, 1, 1, 2, 3, 9])),
    "fork": st.tuples(NAME, NAME, st.sampled_from(["", "", "red", "blue"])),
    "keep": st.tuples(NAME, LABEL),
    "go": st.tuples(NAME, LABEL),
    "drop": st.tuples(NAME, LABEL),
    "begin": st.tuples(NAME, st.sampled_from([0, 5])),
    "read": st.tuples(NAME),
    "write": st.tuples(NAME, st.sampled_from(["now", "now", "again", "ahead"]), st.sampled_from([0, 3, -2])),
    "token": st.tuples(NAME, NAME, st.booleans()),
    "close": st.tuples(NAME),
    "checkpoint": st.just(()),
    "sleep": st.just(()),
    "tidy": st.just(()),
    "kill": st.just(()),
    "stop": st.just(()),
    "kill_soon": st.tuples(st.integers(0, 12)),
}
PROGRAM = st.lists(
    st.one_of(
        *(st.tuples(st.just(name), SERVER, detail) for name, detail in OPERATIONS.items()),
        *(st.tuples(st.just("step"), SERVER, OPERATIONS["step"]) for _ in range(4)),
    ),
    min_size=15,
    max_size=50,
)
KEEP = {"a": 1, "b": 3, "c": 8}
"""How many requests of a session can be taken back, by the id that it is opened with."""
BEGINNING = Point()
Outcome = bytes | str
"""The outputs of a step, or the reason of its failure."""


class Driver:
    """Runs one program.

    Args:
        repository: Has the model `steps`.
        place: Of the store.
        oracle: The model.
        durability: Of both servers.
        done_first: Whether the change at which a server ends happens.
        random: Draws inputs.
    """

    def __init__(
        self,
        repository: Path,
        place: Path | RedisOptions,
        oracle: SmallModel,
        *,
        durability: str,
        done_first: bool,
        random: np.random.Generator,
    ) -> None:
        self._repository = repository
        self._place = place
        self._oracle = oracle
        self._durability = durability
        self._done_first = done_first
        self._random = random
        self._model = SessionModel()
        self._servers: list[MortalServer | None] = [None, None]
        self._void: tuple[dict[str, int], dict[str, int]] = ({}, {})
        """Handles by id that a later resumption has made void, of the servers that run."""
        self._older: dict[str, tuple[int, Array]] = {}
        """A request of each session that is not its last one."""

    async def run(self, program: list[tuple[str, int, tuple[Any, ...]]]) -> None:
        """Runs the program; then a new server finds every session where it must be."""
        try:
            for name, server, detail in program:
                try:
                    await getattr(self, name)(server, *detail)
                except Stopped:
                    await self._end(server, killed=True)
            for server in (0, 1):
                await self.stop(server)
            for name in ("a", "b", "c"):
                await self.resume(0, name)
                if name in self._model.copies[0]:
                    await self.step(0, name, "again", 1)
                    await self.step(0, name, "now", 1)
        finally:
            for server in (0, 1):
                await self._end(server, killed=True)

    async def _server(self, number: int) -> MortalServer:
        server = self._servers[number]
        if server is None:
            server = self._servers[number] = MortalServer(
                self._repository, self._place, durability=self._durability, done_first=self._done_first
            )
            await server.start()
        return server

    async def _end(self, number: int, *, killed: bool) -> None:
        server, self._servers[number] = self._servers[number], None
        if server is not None:
            await server.end(killed=killed)
            if not server.mortal.stopped:
                self._model.written(number)
        self._model.ended(number)
        self._void[number].clear()

    # --- steps ---

    async def step(self, number: int, name: str, kind: str, steps: int) -> None:
        """Sends a step: the next one, or one that is late, early, sent again, or has a void handle."""
        if name not in self._model.copies[number]:
            await self.open(number, name)
        copy = self._model.copies[number][name]
        point = copy.point
        fresh = self._random.standard_normal((steps, 3)).astype(np.float32)
        if kind == "again" and point.last is not None:
            expected: Outcome = point.repeated(self._oracle)
            if point.unsure and not copy.line.contested:
                return
            await self._expect(number, name, copy, await self._send(number, copy, *point.last), expected)
        elif kind == "older" and name in self._older:
            position, x = self._older[name]
            if position != point.position and (point.last is None or point.last[0] != position):
                outcome = await self._send(number, copy, position, x)
                await self._expect(number, name, copy, outcome, "POSITION_MISMATCH")
        elif kind == "ahead":
            outcome = await self._send(number, copy, point.position + 1 + steps, fresh)
            await self._expect(number, name, copy, outcome, "POSITION_MISMATCH")
        elif kind == "void" and name in self._void[number]:
            void = Copy(copy.line, self._void[number][name], point)
            assert await self._send(number, void, point.position, fresh) in VOID
        elif kind in ("now", "twice"):
            await self._advance(number, name, copy, fresh, times=2 if kind == "twice" else 1)

    async def _advance(self, number: int, name: str, copy: Copy, x: Array, *, times: int) -> None:
        start = copy.point
        expected, point = start.stepped(self._oracle, x)
        if copy.line.owner == number:
            copy.line.stored.append(point)
        if start.last is not None:
            self._older[name] = start.last
        sending = [asyncio.ensure_future(self._send(number, copy, start.position, x)) for _ in range(times)]
        await asyncio.wait(sending)
        for one in sending:
            if await self._expect(number, name, copy, one.result(), expected):
                copy.point = point
                copy.changed = copy.line.owner != number
                if self._durability == "reply" and copy.line.owner == number:
                    copy.line.is_at(point)

    async def _expect(self, number: int, name: str, copy: Copy, outcome: Outcome, expected: Outcome) -> bool:
        """Compares an outcome; returns whether it is the expected one, and not that the session is gone."""
        if outcome == expected and not copy.told:
            if copy.asleep:
                assert copy.line.owner == number
                copy.asleep = False
            return True
        assert outcome in VOID, (name, outcome, expected, copy)
        assert not self._model.is_sure(number, name), (name, outcome, copy)
        self._model.copies[number].pop(name, None)
        return False

    async def _send(self, number: int, copy: Copy, position: int, x: Array) -> Outcome:
        server = await self._server(number)
        answer: asyncio.Future[StepResult | ServiceError] = asyncio.get_running_loop().create_future()
        server.dataplane.step(
            np.array([copy.handle], np.uint64),
            np.array([position], np.uint64),
            np.array([len(x)], np.uint32),
            {"x": x},
            owner=OWNER,
            deadline_s=None,
            reply=lambda result: None if answer.done() else answer.set_result(result),
        )
        result = await server.unless_killed(answer)
        assert isinstance(result, StepResult), result
        if result.failures:
            return str(result.failures[0].reason.value)
        if result.durable_positions is not None and copy.line.owner == number:
            (durable,) = result.durable_positions.tolist()
            assert durable <= position + len(x)
            if not copy.line.contested and not copy.line.moving:
                copy.line.told_durable(durable)
        return result.outputs["y"].tobytes()

    # --- sessions ---

    async def open(self, number: int, name: str, begins: Point = BEGINNING) -> None:
        """Opens an id: a new session, or the one that is there."""
        dataplane = (await self._server(number)).dataplane
        birth, point = self._birth(), replace(begins, keep=KEEP[name])
        self._model.opening(number, name, birth, point)
        try:
            opened, failures = await dataplane.sessions.open(
                "steps",
                0,
                [name],
                owner=OWNER,
                births=[birth],
                keep=point.keep,
                initial=initial_state(dataplane, "steps", point),
            )
        except Stopped:
            self._model.taking_over(number, name)
            raise
        assert not failures
        assert opened[0].created == (opened[0].view.birth == birth)
        if not opened[0].created:
            del self._model.lines_of(name)[birth]
        await self._opened(number, name, opened[0], point)

    async def resume(self, number: int, name: str) -> None:
        """Takes a session over."""
        sessions = (await self._server(number)).dataplane.sessions
        try:
            resumed, failures = await sessions.resume([name], owner=OWNER)
        except Stopped:
            self._model.taking_over(number, name)
            raise
        if failures:
            assert failures[0].reason.value in ("SESSION_NOT_FOUND", "SESSION_EXPIRED")
            self._model.missing(number, name)
            self._model.settled(number)
        else:
            await self._opened(number, name, resumed[0])

    async def _opened(self, number: int, name: str, opened: OpenedSession, begins: Point = BEGINNING) -> None:
        view = opened.view
        earlier = self._model.copies[number].get(name)
        if opened.created:
            assert view.position == begins.position
            line = self._model.created(number, name, view.birth, begins, view.handle)
            if self._durability == "reply":
                line.is_at(begins)
        else:
            read = await SessionStates.beside(await self._sessions(number)).read(
                np.array([view.handle], np.uint64), owner=OWNER
            )
            state = read.state["state"].tobytes()
            copy = self._model.taken_over(number, name, view.birth, view.position, state, view.handle)
            copy.named = copy.line.found_named(await self._listed(number, copy))
            assert copy.point.positions in (None, opened.kept_positions)
            assert opened.keep == copy.point.keep
        self._model.settled(number)
        if earlier is not None:
            self._void[number][name] = earlier.handle

    async def _sessions(self, number: int) -> Sessions:
        return (await self._server(number)).dataplane.sessions

    async def _listed(self, number: int, copy: Copy) -> dict[str, tuple[int, bytes]]:
        """Positions and states of a session's named checkpoints in a server's memory."""
        checkpoints = SessionCheckpoints.beside(await self._sessions(number))
        (found,), failures = await checkpoints.list_all(np.array([copy.handle], np.uint64), owner=OWNER)
        assert not failures
        return {one.name: (one.position, one.state) for one in found}

    def _birth(self) -> int:
        return int(self._random.integers(1, 1 << 62))

    async def rewind(self, number: int, name: str, requests: int) -> None:
        """Takes the last requests back, as many as are kept."""
        copy = self._model.copies[number].get(name)
        if copy is None or copy.point.unsure:
            return
        target = copy.point.rewound(requests)
        if copy.line.owner == number:
            copy.line.stored.append(target)
        sessions = (await self._server(number)).dataplane.sessions
        rewound, failures = await sessions.rewind(
            np.array([copy.handle], np.uint64), np.array([target.position], np.uint64), owner=OWNER
        )
        reason = failures[0].reason.value if failures else ""
        if await self._expect(number, name, copy, reason, ""):
            assert rewound[0].view.position == target.position
            assert target.positions in (None, rewound[0].kept_positions)
            copy.point = target
            if copy.line.owner == number:
                copy.line.is_at(target)
        self._model.settled(number)

    async def fork(self, number: int, name: str, twin: str, at: str) -> None:
        """Copies a session, or one of its named checkpoints, under an id that no session has."""
        copy = self._model.copies[number].get(name)
        if copy is None or self._model.lines_of(twin) or (at and at not in copy.named):
            return
        sessions = (await self._server(number)).dataplane.sessions
        handles = np.array([copy.handle], np.uint64)
        kept = copy.named[at] if at else (copy.point.position, copy.point.state)
        birth, point = self._birth(), Point(*kept, keep=copy.point.keep)
        self._model.opening(number, twin, birth, point)
        forked, failures = await sessions.fork(
            handles, [twin], owner=OWNER, births=[birth], checkpoints=[at] if at else []
        )
        reason = failures[0].reason.value if failures else ""
        if await self._expect(number, name, copy, reason, ""):
            view = forked[0].view
            assert (view.position, view.birth) == (point.position, birth)
            line = self._model.created(number, twin, birth, point, view.handle)
            line.is_at(point)
        else:
            del self._model.lines_of(twin)[birth]
        self._model.settled(number)

    async def close(self, number: int, name: str) -> None:
        """Ends a session."""
        copy = self._model.copies[number].get(name)
        if copy is None:
            return
        line = copy.line
        if line.owner == number:
            line.stored.append(None)
        sure = self._model.is_sure(number, name)
        sessions = (await self._server(number)).dataplane.sessions
        failures = await sessions.close(np.array([copy.handle], np.uint64), owner=OWNER)
        assert not (sure and failures)
        elsewhere = line.owner != number and line in self._model.lines_of(name).values()
        assert failures or copy.asleep or line.contested or not elsewhere
        self._model.copies[number].pop(name)
        if line.owner == number and not (failures or copy.asleep or line.contested):
            self._model.closed(line)
        elif line.owner == number:
            line.owner = None
        self._model.settled(number)

    # --- servers ---

    async def checkpoint(self, number: int) -> None:
        """Writes what has changed."""
        if await (await self._server(number)).checkpoint():
            self._model.written(number)

    async def sleep(self, number: int) -> None:
        """Lets time pass until no session is in memory."""
        server = await self._server(number)
        server.clock.now_s += IDLE_TIMEOUT_S + 1
        if await server.checkpoint():
            self._model.written(number)
            sum(server.dataplane.idle_expiry.expire())
            self._model.fell_asleep(number)

    async def tidy(self, number: int) -> None:
        """Folds what the store has put off."""
        await (await self._server(number)).tidy()

    async def kill(self, number: int) -> None:
        """Ends a server without a last checkpoint."""
        await self._end(number, killed=True)

    async def kill_soon(self, number: int, changes: int) -> None:
        """Ends a server at one of its next changes of the store."""
        (await self._server(number)).mortal.left = changes

    async def stop(self, number: int) -> None:
        """Ends a server as SIGTERM does."""
        await self._end(number, killed=False)
