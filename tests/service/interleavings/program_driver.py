"""Sends the requests of programs to a dataplane without transport, and compares every answer.

A burst is sent without waiting for answers. A request is a line of `programs.REQUESTS` and a method of
`Driver`, which notes what is expected, and returns the call. Requests for one session run in the order of the
burst; where an outcome would depend on the order of two sessions, the later request is left out.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tests.helpers.arrays import Array
from tests.helpers.initial_state import initial_state
from tests.helpers.models.small import HIDDEN, SmallModel
from tests.helpers.session_point import Point

from statewise.service import ServiceError
from statewise.service.base import StepResult

from .changing_model import Served
from .checked_calls import Call, Handles, succeeded
from .expected_sessions import MOVED, ExpectedSessions, Token
from .programs import BY_HANDLE, IDLE_TIMEOUT_S, IDS, KEEP, Burst, Program, Row
from .state_requests import StateRequests, shortened

MOSTLY = 0.8
"""How often a session that a burst means, and that is not open, is opened before."""


class Driver(StateRequests):
    """Runs a program.

    Args:
        served: Serves the model.
        oracles: Its versions.
        owner: Of all sessions; nobody had one before.
        random: Draws inputs and states.
    """

    def __init__(
        self, served: Served, oracles: dict[int, SmallModel], *, owner: str, random: np.random.Generator
    ) -> None:
        super().__init__(served, ExpectedSessions(oracles), owner=owner, random=random)
        self._tokens: list[tuple[bytes, Token]] = []
        self._versions = {1}
        self._default: int | None = None

    async def run(self, program: Program) -> None:
        """Runs a program; begins and ends with version 1 alone and no session."""
        try:
            for name, detail in program:
                await getattr(self, name)(detail)
            await self.burst([("close", [(name,) for name in IDS])])
        finally:
            left, _ = await self._sessions.resume(IDS, owner=self._owner)
            for one in left:
                await self._sessions.close(np.array([one.view.handle], np.uint64), owner=self._owner)
            await self._served.remove()
            await self._served.choose(None)

    @property
    def _version(self) -> int:
        """The version that new sessions get."""
        return self._default if self._default in self._versions else max(self._versions)

    async def burst(self, requests: Burst) -> None:
        """Sends requests without waiting for answers."""
        meant = {row[0] for name, rows in requests if name in BY_HANDLE for row in rows}
        for name in sorted(meant - set(self._expected.by_name)):
            if self._random.random() < MOSTLY:
                await self._begin([("open", (name, None))])
        await self._begin(requests)

    async def _begin(self, requests: Burst) -> None:
        self._touched.clear()
        self._expected.now_s = self._now()
        calls = [getattr(self, name)(detail) for name, detail in requests]
        tasks = [asyncio.create_task(call) for call in calls if call is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            task.result()

    async def wait(self, seconds: float) -> None:
        """Lets time pass; sessions that were idle for too long end."""
        self._now.now_s += seconds
        sessions = self._expected.by_name
        old = [name for name, one in sessions.items() if self._now() - one.used_s > IDLE_TIMEOUT_S]
        assert sum(self._dataplane.idle_expiry.expire()) == len(old)
        for name in old:
            self._expected.end(name, "SESSION_EXPIRED")

    async def reload(self, change: str) -> None:
        """Changes the repository under the sessions, which stay on their versions."""
        if change == "publish":
            if any(one.version not in self._versions for one in self._expected.by_name.values()):
                return  # it would be loaded beside the one that these sessions are on, as another version
            await self._served.publish()
            self._versions = {1, 2}
        elif change == "remove":
            await self._served.remove()
            self._versions = {1}
        else:
            self._default = 1 if change == "roll back" else None
            await self._served.choose(self._default)
        assert self._dataplane.models.default_version("steps") == self._version

    # --- steps ---

    def step(self, rows: list[Row]) -> Call | None:
        """Sends a frame: its rows are right, late, early, sent again, or have a void handle."""
        frame = [self._row(*row) for row in self._addressed(rows, one_version=True)]
        if not frame:
            return None
        expected = [
            reason or self._expected.step(name, position, x) for name, (_, reason), position, x in frame
        ]
        handles, positions, inputs = zip(*((row[1][0], row[2], row[3]) for row in frame), strict=True)
        lengths = np.array([len(x) for x in inputs], np.uint32)
        omitted = bool((lengths == 1).all() and self._random.random() < 0.7)

        async def call() -> None:
            answer: asyncio.Future[StepResult | ServiceError] = asyncio.get_running_loop().create_future()
            self._dataplane.step(
                np.array(handles, np.uint64),
                np.array(positions, np.uint64),
                None if omitted else lengths,
                {"x": np.concatenate(inputs)},
                owner=self._owner,
                deadline_s=None,
                reply=answer.set_result,
            )
            result = await answer
            assert isinstance(result, StepResult)
            y = result.outputs["y"] if result.outputs else np.empty(0, np.float32)
            assert b"".join(succeeded(expected, result.failures)) == y.tobytes()

        return call()

    def _row(self, name: str, kind: str, steps: int) -> tuple[str, tuple[int, str], int, Array]:
        fresh = self._random.standard_normal((steps, 3)).astype(np.float32)
        void = self._expected.void[name]
        session = self._expected.by_name.get(name)
        address, point = self._expected.address(name), Point() if session is None else session.point
        if kind == "again" and point.last is not None:
            return name, address, *point.last
        if kind == "ahead":
            return name, address, point.position + 1 + steps, fresh
        if kind == "void" and void:
            return name, void[-1], point.position, fresh
        return name, address, point.position, fresh

    # --- copies ---

    def fork(self, rows: list[tuple[str, str, int | None]]) -> Call | None:
        """Copies sessions, which keep their versions; from the present state, or at a checkpoint."""
        free = [row for row in self._addressed(rows) if self._use(row[1])]
        named = [(name, twin, self._expected.label(name, number)) for name, twin, number in free]
        twins, labels = [twin for _, twin, _ in named], [label for _, _, label in named]

        async def call(handles: Handles, expected: Sequence[Any]) -> None:
            names = shortened(labels) if any(labels) else []
            made, failures = await self._sessions.fork(handles, twins, owner=self._owner, checkpoints=names)
            self._compare(expected, made, failures)

        return self._call(named, self._expected.fork, call)

    def snapshot(self, detail: tuple[list[tuple[str]], bool]) -> Call | None:
        """Copies sessions into tokens, which a later burst may restore."""
        rows, checkpoints = detail

        async def call(handles: Handles, expected: Sequence[Any]) -> None:
            tokens, failures = await self._sessions.snapshot(
                handles, owner=self._owner, checkpoints=checkpoints
            )
            self._tokens += zip(tokens, succeeded(expected, failures), strict=True)

        def expect(name: str) -> Token:
            return self._expected.snapshot(name, checkpoints=checkpoints)

        return self._call(self._addressed(rows), expect, call)

    def restore(self, detail: tuple[int, str]) -> Call | None:
        """Opens a session from a token, which needs its version to be served still."""
        index, twin = detail
        if not self._tokens or not self._use(twin):
            return None
        raw, token = self._tokens[-1 - index % len(self._tokens)]
        expected = [self._expected.restore(token, twin, served=token.version in self._versions)]

        async def call() -> None:
            self._compare(expected, *await self._sessions.restore([raw], [twin], owner=self._owner))

        return call()

    # --- sessions that begin and end ---

    def open(self, detail: tuple[str, int | None]) -> Call | None:
        """Opens a session in a state of its own or a given one, or takes it over."""
        name, position = detail
        if not self._use(name):
            return None
        point = Point(keep=KEEP[name])
        state = self._random.standard_normal(2 * HIDDEN).astype(np.float32)
        if position is not None:
            point = replace(point, position=position, state=state)
        expected = self._expected.open(name, self._version, point)

        async def call() -> None:
            opened, failures = await self._sessions.open(
                "steps",
                0,
                [name],
                owner=self._owner,
                keep=KEEP[name],
                initial=initial_state(self._dataplane, "steps", point),
            )
            self._compare([expected], opened, failures)

        return call()

    def resume(self, rows: list[tuple[str]]) -> Call | None:
        """Takes sessions over; one that is not open has expired or is unknown."""
        names = [name for (name,) in rows if self._use(name)]
        if not names:
            return None
        expected = [self._expected.resume(name) for name in names]

        async def call() -> None:
            self._compare(expected, *await self._sessions.resume(names, owner=self._owner))

        return call()

    def close(self, rows: list[tuple[str]]) -> Call | None:
        """Ends sessions; those that have ended already are no failure."""
        handles: list[int] = []
        expected: list[str | None] = []
        for (name,) in self._addressed(rows):
            handle, reason = self._expected.address(name)
            if reason or self._use(name):
                handles.append(handle)
                expected.append(reason if reason == MOVED else None)
            if not reason and handles and handles[-1] == handle:
                self._expected.close(name)
        if not handles:
            return None

        async def call() -> None:
            failures = await self._sessions.close(np.array(handles, np.uint64), owner=self._owner)
            succeeded(expected, failures)

        return call()
