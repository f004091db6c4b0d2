"""Whatever is done to sessions, in whatever order: every answer is the oracle's.

The dataplane without transport, driven by random programs, beside a model of sessions that is a dictionary.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statewise.service import ServiceError, Settings
from statewise.service.dataplane import Dataplane
from statewise.service.frame import StepResult
from statewise.service.server import build_dataplane

IDS = ("a", "b", "c", "d")


@dataclass
class Expected:
    """A session as it should be."""

    handle: int
    position: int = 0
    state: Any = None
    before: Any = None
    last: tuple[int, bytes] | None = None
    """Start and input of the last request."""
    void: list[int] = field(default_factory=list)


@pytest.fixture(
    scope="module",
    params=[{}, {"inline_s": 0.0}, {"piece_s": 1e-9}, {"inline_s": 0.0, "piece_s": 1e-9}],
    ids=["as it is", "all runs in threads", "pieces of one step", "pieces of one step in threads"],
)
def dataplane(repository: Path, request: pytest.FixtureRequest) -> Iterator[Dataplane]:
    with ThreadPoolExecutor(1) as executor:
        limits = Settings(repository=repository, sessions=64, **request.param)
        dataplane = build_dataplane(limits, executor=executor)
        dataplane.models.load_all()
        yield dataplane


# One row of a frame: which session, what is right or wrong about it, and how many steps.
ROW = st.tuples(
    st.sampled_from(IDS),
    st.sampled_from(["now", "again", "ahead", "void"]),
    st.sampled_from([1, 1, 1, 2, 7, 40]),
)
BURST = st.lists(st.lists(ROW, min_size=1, max_size=4, unique_by=lambda row: row[0]), min_size=1, max_size=6)
PROGRAM = st.lists(
    st.one_of(
        BURST.map(lambda burst: ("steps", burst)),
        st.sampled_from(IDS).map(lambda name: ("close", name)),
        st.sampled_from(IDS).map(lambda name: ("resume", name)),
        st.sampled_from(IDS).map(lambda name: ("rewind", name)),
        st.tuples(st.sampled_from(IDS), st.sampled_from(IDS)).map(lambda names: ("fork", names)),
        st.tuples(st.sampled_from(IDS), st.sampled_from(IDS)).map(lambda names: ("restore", names)),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=PROGRAM, seed=st.integers(0, 2**32 - 1))
def test_every_answer_is_the_oracles(dataplane: Dataplane, small_model: Any, program: Any, seed: int) -> None:
    asyncio.run(_run(dataplane, small_model("steps"), program, np.random.default_rng(seed)))
    assert len(dataplane.table) == 0
    assert dataplane.models.find("steps").arena.used_rows == 0
    assert not dataplane.table.busy.any()


async def _run(dataplane: Dataplane, oracle: Any, program: Any, random: np.random.Generator) -> None:
    sessions: dict[str, Expected] = {}
    for operation, detail in program:
        if operation == "steps":
            missing = sorted({name for frame in detail for name, _, _ in frame} - set(sessions))
            if missing:
                opened, failures = await dataplane.sessions.open("steps", 0, missing, owner="")
                assert not failures
                sessions.update((one.view.session_id, Expected(one.view.handle)) for one in opened)
            await _burst(dataplane, oracle, sessions, detail, random)
        elif operation in ("fork", "restore"):
            await _copy(dataplane, sessions, *detail, through_snapshot=operation == "restore")
        elif detail in sessions:
            session = sessions[detail]
            handles = np.array([session.handle], np.uint64)
            if operation == "close":
                assert not await dataplane.sessions.close(handles, owner="")
                del sessions[detail]
            elif operation == "rewind":
                await _rewind(dataplane, session, handles)
            else:
                (resumed,), _ = await dataplane.sessions.resume([detail], owner="")
                assert resumed.view.position == session.position
                session.void.append(session.handle)
                session.handle = resumed.view.handle
    handles = np.array([session.handle for session in sessions.values()], np.uint64)
    if len(handles):
        assert not await dataplane.sessions.close(handles, owner="")


async def _copy(
    dataplane: Dataplane, sessions: dict[str, Expected], name: str, twin: str, *, through_snapshot: bool
) -> None:
    if name not in sessions:
        return
    handles = np.array([sessions[name].handle], np.uint64)
    if through_snapshot:
        tokens, _ = await dataplane.sessions.snapshot(handles, owner="")
        made, failures = dataplane.sessions.restore(tokens, [twin], owner="")
    else:
        made, failures = await dataplane.sessions.fork(handles, [twin], owner="")
    if twin in sessions:
        assert [failure.reason.value for failure in failures] == ["SESSION_EXISTS"]
        return
    original = sessions[name]
    assert made[0].view.position == original.position
    sessions[twin] = Expected(made[0].view.handle, original.position, original.state)


async def _rewind(dataplane: Dataplane, session: Expected, handles: Any) -> None:
    """To before the last request, where there is one; else to where the session stands."""
    target = session.position if session.last is None else session.last[0]
    (rewound,), _ = await dataplane.sessions.rewind(handles, np.array([target], np.uint64), owner="")
    assert (rewound.view.position, rewound.view.handle) == (target, session.handle)
    if session.last is not None:
        session.position, session.state, session.last = target, session.before, None


async def _burst(
    dataplane: Dataplane, oracle: Any, sessions: dict[str, Expected], frames: Any, random: np.random.Generator
) -> None:
    """Sends frames without waiting for answers, foretells each answer, and compares."""
    pending = []
    for rows in frames:
        columns = [_row(sessions[name], kind, steps, random) for name, kind, steps in rows]
        handles, positions, inputs = zip(*columns, strict=True)
        expected = [
            _foretell(oracle, sessions[name], handle, position, x)
            for (name, _, _), handle, position, x in zip(rows, handles, positions, inputs, strict=True)
        ]
        answer: asyncio.Future[StepResult | ServiceError] = asyncio.get_running_loop().create_future()
        lengths = np.array([len(x) for x in inputs], np.uint32)
        dataplane.step(
            np.array(handles, np.uint64),
            np.array(positions, np.uint64),
            None if (lengths == 1).all() and random.random() < 0.7 else lengths,
            {"x": np.concatenate(inputs)},
            owner="",
            deadline_s=None,
            reply=answer.set_result,
        )
        pending.append((expected, answer))
    for expected, answer in pending:
        result = await answer
        assert isinstance(result, StepResult)
        assert {failure.row: failure.reason.value for failure in result.failures} == {
            row: outcome for row, outcome in enumerate(expected) if isinstance(outcome, str)
        }
        outputs = [outcome for outcome in expected if not isinstance(outcome, str)]
        if outputs:
            assert result.outputs["y"].tobytes() == np.concatenate(outputs).tobytes()


def _row(session: Expected, kind: str, steps: int, random: np.random.Generator) -> tuple[int, int, Any]:
    fresh = random.standard_normal((steps, 3)).astype(np.float32)
    if kind == "again" and session.last is not None:
        start, raw = session.last
        return session.handle, start, np.frombuffer(raw, np.float32).reshape(-1, 3)
    if kind == "ahead":
        return session.handle, session.position + 1 + steps, fresh
    if kind == "void" and session.void:
        return session.void[-1], session.position, fresh
    return session.handle, session.position, fresh


def _foretell(oracle: Any, session: Expected, handle: int, position: int, x: Any) -> Any:
    """The outputs, or the reason of the refusal."""
    if handle != session.handle:
        return "SESSION_MOVED"
    if position == session.position:
        y, state = oracle.run(x, session.state)
        session.before, session.state = session.state, state
        session.last = (position, x.tobytes())
        session.position += len(x)
        return y
    if session.last == (position, x.tobytes()):
        return oracle.run(x, session.before)[0]
    return "POSITION_MISMATCH"
