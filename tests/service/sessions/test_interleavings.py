"""Drives sessions by random programs, and compares every answer with the oracle's.

The programs drive the dataplane without transport, beside a model of sessions that is a dictionary. An
operation is a line of OPERATIONS and a method of `Driver`.
"""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.helpers.arrays import Array
from tests.helpers.models.small import SmallModel, SmallModels

from statewise.service import ServiceError, Settings
from statewise.service.assembly import build_dataplane
from statewise.service.base import RowFailure, StepResult
from statewise.service.dataplane import Dataplane, OpenedSession

IDS = ("a", "b", "c", "d")
IDLE_TIMEOUT_S = 60.0

NAME = st.sampled_from(IDS)
# One row of a step: its session, whether its handle and position are right, and its number of steps.
ROW = st.tuples(
    NAME, st.sampled_from(["now", "again", "ahead", "void"]), st.sampled_from([1, 1, 1, 2, 7, 40])
)
Row = tuple[str, str, int]
Outcome = Array | str
"""The outputs of a row, or the reason of its failure."""
FRAME = st.lists(ROW, min_size=1, max_size=4, unique_by=lambda row: row[0])
OPERATIONS = {
    "step": st.lists(FRAME, min_size=1, max_size=6),
    "close": NAME,
    "resume": NAME,
    "rewind": NAME,
    "fork": st.tuples(NAME, NAME),
    "restore": st.tuples(NAME, NAME),
    "wait": st.sampled_from([25.0, 70.0]),
    "reload": st.sampled_from(["publish", "remove", "roll back", "roll forward"]),
}
PROGRAM = st.lists(
    st.one_of(*(st.tuples(st.just(name), detail) for name, detail in OPERATIONS.items())),
    min_size=1,
    max_size=12,
)


@dataclass
class Expected:
    """The expected state of a session."""

    handle: int
    version: int
    used_s: float
    position: int = 0
    state: Array | None = None
    before: Array | None = None
    """The state before the last request."""
    last: tuple[int, bytes] | None = None
    """Start and input of the last request."""


@dataclass
class Clock:
    """A clock that the test sets."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Served:
    """The dataplane under test, its clock, and the folder of its one model, `steps`."""

    dataplane: Dataplane
    clock: Clock
    folder: Path
    source: Path

    async def publish(self) -> None:
        """Publishes version 2 beside version 1."""
        if not (self.folder / "2").exists():
            shutil.copytree(self.source / "2", self.folder / ".2")
            os.rename(self.folder / ".2", self.folder / "2")
        await self.dataplane.models.follow()
        await self.dataplane.models.wait_until_loaded()

    async def remove(self) -> None:
        """Leaves version 1 alone for new sessions; sessions of version 2 stay on it."""
        shutil.rmtree(self.folder / "2", ignore_errors=True)
        await self.dataplane.models.follow()

    async def choose(self, version: int | None) -> None:
        """Sets the default version; None: the highest."""
        if version is None:
            (self.folder / "model.toml").unlink(missing_ok=True)
        else:
            (self.folder / "model.toml").write_text(f"default_version = {version}\n")
        await self.dataplane.models.follow()


@pytest.fixture(
    scope="module",
    params=[{}, {"inline_s": 0.0}, {"piece_s": 1e-9}, {"inline_s": 0.0, "piece_s": 1e-9}],
    ids=["as it is", "all runs in threads", "pieces of one step", "pieces of one step in threads"],
)
def served(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Served]:
    root, clock = tmp_path_factory.mktemp("changing"), Clock()
    shutil.copytree(repository / "steps" / "1", root / "steps" / "1")
    limits = Settings(
        repository=root, load_in_child=False, sessions=64, idle_timeout_s=IDLE_TIMEOUT_S, **request.param
    )
    with ThreadPoolExecutor(1) as executor:
        dataplane = build_dataplane(limits, executor=executor, clock=clock)
        asyncio.run(dataplane.models.load_all())
        yield Served(dataplane, clock, root / "steps", repository / "steps")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=PROGRAM, seed=st.integers(0, 2**32 - 1))
def test_every_answer_is_the_oracles(
    served: Served, small_models: SmallModels, program: list[tuple[str, Any]], seed: int
) -> None:
    oracles = {version: small_models.find("steps", version) for version in (1, 2)}
    asyncio.run(Driver(served, oracles, np.random.default_rng(seed)).run(program))
    table, models = served.dataplane.table, served.dataplane.models
    assert len(table) == 0
    assert not table.busy.any()
    assert [(loaded.package.version, loaded.arena.used_rows) for loaded in models] == [(1, 0)]


class Driver:
    """Runs a program, computes the expected answer of each operation, and compares."""

    def __init__(self, served: Served, oracles: dict[int, SmallModel], random: np.random.Generator) -> None:
        self._served = served
        self._dataplane = served.dataplane
        self._now = served.clock
        self._oracles = oracles
        self._random = random
        self._sessions: dict[str, Expected] = {}
        self._void: dict[str, list[tuple[int, str]]] = {name: [] for name in IDS}
        """Earlier handles by id, with the reason that each is void."""
        self._versions = {1}
        self._default: int | None = None

    async def run(self, program: list[tuple[str, Any]]) -> None:
        """Runs a program; begins and ends with version 1 alone and no session."""
        for name, detail in program:
            await getattr(self, name)(detail)
        for name in IDS:
            await self.close(name)
        await self._served.remove()
        await self._served.choose(None)

    @property
    def _version(self) -> int:
        """The version that new sessions get."""
        return self._default if self._default in self._versions else max(self._versions)

    # --- operations ---

    async def step(self, frames: list[list[Row]]) -> None:
        """Sends steps without waiting for answers, then compares each answer with the expected one."""
        missing = sorted({name for frame in frames for name, _, _ in frame} - set(self._sessions))
        if missing:
            opened, failures = await self._dataplane.sessions.open("steps", 0, missing, owner="")
            assert not failures
            assert all((one.created, one.view.position) == (True, 0) for one in opened)
            for one in opened:
                self._sessions[one.view.session_id] = Expected(one.view.handle, self._version, self._now())
        pending = [self._send(self._of_one_version(frame)) for frame in frames]
        for expected, answer in pending:
            result = await answer
            assert isinstance(result, StepResult)
            assert {failure.row: failure.reason.value for failure in result.failures} == {
                row: outcome for row, outcome in enumerate(expected) if isinstance(outcome, str)
            }
            outputs = [outcome for outcome in expected if not isinstance(outcome, str)]
            if outputs:
                assert result.outputs["y"].tobytes() == np.concatenate(outputs).tobytes()

    async def close(self, name: str) -> None:
        """Ends a session; its handle is unknown from then on."""
        if name in self._sessions:
            assert not await self._dataplane.sessions.close(self._handle(name), owner="")
            self._void[name].append((self._sessions.pop(name).handle, "SESSION_NOT_FOUND"))

    async def resume(self, name: str) -> None:
        """Takes a session over; a session that is not open has expired or is unknown."""
        resumed, failures = await self._dataplane.sessions.resume([name], owner="")
        if name not in self._sessions:
            ended = self._void[name][-1][1] if self._void[name] else "SESSION_NOT_FOUND"
            assert failures[0].reason.value in (ended, "SESSION_EXPIRED")  # in an earlier program
            return
        session = self._sessions[name]
        assert resumed[0].view.position == session.position
        self._void[name].append((session.handle, "SESSION_MOVED"))
        session.handle, session.used_s = resumed[0].view.handle, self._now()

    async def rewind(self, name: str) -> None:
        """Takes the last request back where there is one; otherwise rewinds to the session's own position."""
        if name not in self._sessions:
            return
        session = self._sessions[name]
        target = session.position if session.last is None else session.last[0]
        positions = np.array([target], np.uint64)
        (rewound,), _ = await self._dataplane.sessions.rewind(self._handle(name), positions, owner="")
        assert (rewound.view.position, rewound.view.handle) == (target, session.handle)
        session.used_s = self._now()
        if session.last is not None:
            session.position, session.state, session.last = target, session.before, None

    async def fork(self, names: tuple[str, str]) -> None:
        """Copies a session, which keeps its version."""
        name, twin = names
        if name in self._sessions:
            made, failures = await self._dataplane.sessions.fork(self._handle(name), [twin], owner="")
            self._copied(name, twin, made, failures)

    async def restore(self, names: tuple[str, str]) -> None:
        """Copies a session through a snapshot, which needs its version to be served still."""
        name, twin = names
        if name not in self._sessions:
            return
        tokens, _ = await self._dataplane.sessions.snapshot(self._handle(name), owner="")
        made, failures = await self._dataplane.sessions.restore(tokens, [twin], owner="")
        if self._sessions[name].version not in self._versions:
            self._sessions[name].used_s = self._now()
            assert [failure.reason.value for failure in failures] == ["MODEL_CHANGED"]
        else:
            self._copied(name, twin, made, failures)

    async def wait(self, seconds: float) -> None:
        """Lets time pass; sessions that were idle for too long end."""
        self._now.now_s += seconds
        old = [name for name, one in self._sessions.items() if self._now() - one.used_s > IDLE_TIMEOUT_S]
        assert sum(self._dataplane.idle_expiry.expire()) == len(old)
        for name in old:
            self._void[name].append((self._sessions.pop(name).handle, "SESSION_EXPIRED"))

    async def reload(self, change: str) -> None:
        """Changes the repository under the sessions, which stay on their versions."""
        if change == "publish":
            await self._served.publish()
            self._versions = {1, 2}
        elif change == "remove":
            await self._served.remove()
            self._versions = {1}
        else:
            self._default = 1 if change == "roll back" else None
            await self._served.choose(self._default)
        assert self._dataplane.models.default_version("steps") == self._version

    # --- parts of operations ---

    def _handle(self, name: str) -> npt.NDArray[np.uint64]:
        return np.array([self._sessions[name].handle], np.uint64)

    def _of_one_version(self, frame: list[Row]) -> list[Row]:
        version = self._sessions[frame[0][0]].version
        return [row for row in frame if self._sessions[row[0]].version == version]

    def _copied(
        self, name: str, twin: str, made: Sequence[OpenedSession], failures: Sequence[RowFailure]
    ) -> None:
        original = self._sessions[name]
        original.used_s = self._now()
        if twin in self._sessions:
            assert [failure.reason.value for failure in failures] == ["SESSION_EXISTS"]
            return
        assert made[0].view.position == original.position
        self._sessions[twin] = Expected(
            made[0].view.handle, original.version, self._now(), original.position, original.state
        )

    def _send(self, rows: list[Row]) -> tuple[list[Outcome], Awaitable[StepResult | ServiceError]]:
        columns = [self._row(name, kind, steps) for name, kind, steps in rows]
        handles, positions, inputs = zip(*columns, strict=True)
        expected = [
            self._expect(name, handle, position, x)
            for (name, _, _), handle, position, x in zip(rows, handles, positions, inputs, strict=True)
        ]
        answer: asyncio.Future[StepResult | ServiceError] = asyncio.get_running_loop().create_future()
        lengths = np.array([len(x) for x in inputs], np.uint32)
        self._dataplane.step(
            np.array(handles, np.uint64),
            np.array(positions, np.uint64),
            None if (lengths == 1).all() and self._random.random() < 0.7 else lengths,
            {"x": np.concatenate(inputs)},
            owner="",
            deadline_s=None,
            reply=answer.set_result,
        )
        return expected, answer

    def _row(self, name: str, kind: str, steps: int) -> tuple[int, int, Array]:
        session = self._sessions[name]
        fresh = self._random.standard_normal((steps, 3)).astype(np.float32)
        if kind == "again" and session.last is not None:
            start, raw = session.last
            return session.handle, start, np.frombuffer(raw, np.float32).reshape(-1, 3)
        if kind == "ahead":
            return session.handle, session.position + 1 + steps, fresh
        if kind == "void" and self._void[name]:
            return self._void[name][-1][0], session.position, fresh
        return session.handle, session.position, fresh

    def _expect(self, name: str, handle: int, position: int, x: Array) -> Outcome:
        """The outputs, or the reason of the refusal; applies the step to the expected session."""
        session = self._sessions[name]
        oracle = self._oracles[session.version]
        if handle != session.handle:
            return dict(self._void[name])[handle]
        if position == session.position:
            session.used_s = self._now()
            y, state = oracle.run(x, session.state)
            session.before, session.state = session.state, state
            session.last = (position, x.tobytes())
            session.position += len(x)
            return y
        if session.last == (position, x.tobytes()):
            session.used_s = self._now()
            return oracle.run(x, session.before)[0]
        return "POSITION_MISMATCH"
