"""Sessions that step, generate, are copied, turned back and given up, in any order.

The dataplane without transport, driven by random programs. The oracle is the read graph in onnxruntime and
the training side's draw, one row alone; temperatures are 0 and 1, where both weigh alike to the bit.
"""

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statewise.models import draw_tokens, uniform_numbers
from statewise.service import ServiceError, Settings
from statewise.service.assembly import build_dataplane
from statewise.service.base import StepResult
from statewise.service.dataplane import CancellationToken, Dataplane, SessionGenerator
from statewise.service.engine import Sampling
from statewise.wire import Reason

IDS = ("a", "b", "c")
BEGIN, END = 7, 0

NAME = st.sampled_from(IDS)
WISH = st.tuples(st.sampled_from([1, 2, 9, 30]), st.sampled_from([0.0, 1.0]), st.sampled_from([0, 2]))
KIND = st.sampled_from(["now", "now", "again", "ahead", "given up"])
REQUEST = st.one_of(
    st.tuples(st.just("step"), NAME, st.sampled_from(["now", "again"]), st.sampled_from([1, 1, 3])),
    st.tuples(st.just("generate"), NAME, KIND, WISH),
)
PROGRAM = st.lists(
    st.one_of(
        st.tuples(st.just("burst"), st.lists(REQUEST, min_size=1, max_size=6)),
        st.tuples(st.sampled_from(["close", "rewind"]), NAME),
        st.tuples(st.sampled_from(["fork", "restore"]), st.tuples(NAME, NAME)),
        st.tuples(st.just("leave"), st.tuples(NAME, NAME, st.integers(0, 30), WISH)),
    ),
    min_size=1,
    max_size=8,
)


class Graph:
    """The read graph, alone."""

    def __init__(self, path: Path) -> None:
        self._session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (self._state,) = [e.shape[1] for e in self._session.get_inputs() if e.name == "state"]

    def read(self, tokens: Any, state: Any) -> tuple[Any, Any]:
        """Outputs [T, V] and the state after."""
        feeds = {
            "x": np.array(tokens, np.int32)[:, None],
            "lengths": np.array([len(tokens)], np.int32),
            "state": np.zeros((1, self._state), np.float32) if state is None else state,
        }
        y, after = self._session.run(None, feeds)
        return y[:, 0], after


@dataclass
class Expected:
    """A session as it should be."""

    handle: int
    position: int = 0
    now: Any = (None, None)
    """State and last output."""
    before: Any = (None, None)
    last: Any = None
    """The last request: its start and what it asked."""


@pytest.fixture(scope="module", params=["letters", "letters_outside"])
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(
    scope="module",
    params=[{}, {"inline_s": 0.0, "piece_s": 1e-9}],
    ids=["as it is", "pieces of one step in threads"],
)
def dataplane(generative: Path, request: pytest.FixtureRequest) -> Iterator[Dataplane]:
    limits = Settings(repository=generative, sessions=16, **request.param)
    with ThreadPoolExecutor(1) as executor:
        dataplane = build_dataplane(limits, executor=executor)
        dataplane.models.load_all()
        yield dataplane


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=PROGRAM, seed=st.integers(0, 2**32 - 1))
def test_every_answer_is_the_oracles(
    dataplane: Dataplane, generative: Path, model: str, program: Any, seed: int
) -> None:
    graph = Graph(generative / model / "1" / "model.onnx")
    asyncio.run(Driver(dataplane, graph, model, np.random.default_rng(seed)).run(program))
    loaded = dataplane.models.find(model)
    assert (len(dataplane.table), loaded.arena.used_rows, loaded.scheduler.queued_steps) == (0, 0, 0)
    assert not dataplane.table.busy.any()


class Driver:
    """Does what a program says, foretells what comes of it, and compares."""

    def __init__(self, dataplane: Dataplane, graph: Graph, model: str, random: np.random.Generator) -> None:
        self._dataplane = dataplane
        self._generator = SessionGenerator(dataplane)
        self._graph = graph
        self._model = model
        self._random = random
        self._sessions: dict[str, Expected] = {}

    async def run(self, program: Any) -> None:
        """Ends with no session open and nothing under way."""
        for name, detail in program:
            await getattr(self, name)(detail)
        # What was left may still run; nothing else runs before it.
        await self.burst([("generate", "a", "now", (1, 0.0, 0))])
        for name in list(self._sessions):
            await self.close(name)

    # --- operations ---

    async def burst(self, requests: Any) -> None:
        """Sends requests without waiting for answers, each after what was sent before."""
        await self._open(name for _, name, _, _ in requests)
        answers = []
        for what, name, kind, detail in requests:
            expected, answer = getattr(self, f"_{what}")(self._sessions[name], kind, detail)
            answers.append((expected, answer))
            await asyncio.sleep(0)
        for expected, answer in answers:
            assert await answer == expected

    async def leave(self, detail: Any) -> None:
        """Generates and leaves some turns of the loop later, with a step of another session behind it."""
        name, other, turns, wish = detail
        await self._open((name, other))
        session, seed = self._sessions[name], int(self._random.integers(3))
        start = session.position
        _, position, after = self._said(start, session.now, wish, seed)
        asked = asyncio.create_task(self._asked(session.handle, start, wish, seed, CancellationToken()))
        await asyncio.sleep(0)
        behind = self._step(self._sessions[other], "now", 1) if other != name else None
        for _ in range(turns):
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait((asked,))
        if behind is not None:
            expected, answer = behind
            async with asyncio.timeout(60):
                assert await answer == expected
        # It had done its work, or it has done nothing.
        held = self._dataplane.sessions.get(name, owner="").view.position
        assert held in (start, position)
        if held > start:
            self._moved(session, ("generate", wish, seed), position - start, after)

    async def close(self, name: str) -> None:
        """Ends a session."""
        if name in self._sessions:
            assert not await self._dataplane.sessions.close(self._handles(name), owner="")
            del self._sessions[name]

    async def rewind(self, name: str) -> None:
        """To before the last request, where there is one."""
        if name not in self._sessions or self._sessions[name].last is None:
            return
        session = self._sessions[name]
        positions = np.array([session.last[0]], np.uint64)
        (rewound,), _ = await self._dataplane.sessions.rewind(self._handles(name), positions, owner="")
        assert rewound.view.position == session.last[0]
        session.position, session.now, session.last = session.last[0], session.before, None

    async def fork(self, names: Any) -> None:
        """Copies a session, last output and all."""
        if names[0] in self._sessions:
            made = await self._dataplane.sessions.fork(self._handles(names[0]), [names[1]], owner="")
            self._copied(*names, *made)

    async def restore(self, names: Any) -> None:
        """Copies a session through a snapshot."""
        if names[0] in self._sessions:
            tokens, _ = await self._dataplane.sessions.snapshot(self._handles(names[0]), owner="")
            self._copied(*names, *self._dataplane.sessions.restore(tokens, [names[1]], owner=""))

    # --- what they share ---

    async def _open(self, names: Iterable[str]) -> None:
        for name in dict.fromkeys(names):
            if name not in self._sessions:
                (opened,), _ = await self._dataplane.sessions.open(self._model, 0, [name], owner="")
                self._sessions[name] = Expected(opened.view.handle)

    def _handles(self, name: str) -> Any:
        return np.array([self._sessions[name].handle], np.uint64)

    def _copied(self, name: str, twin: str, made: Any, failures: Any) -> None:
        if twin in self._sessions:
            assert [failure.reason for failure in failures] == [Reason.SESSION_EXISTS]
            return
        original = self._sessions[name]
        assert made[0].view.position == original.position
        self._sessions[twin] = Expected(made[0].view.handle, original.position, original.now)

    def _moved(self, session: Expected, asked: Any, steps: int, after: Any) -> None:
        session.before, session.now = session.now, after
        session.last = (session.position, asked)
        session.position += steps

    def _step(self, session: Expected, kind: str, steps: int) -> Any:
        tokens, start = self._random.integers(0, 9, steps).tolist(), session.position
        if kind == "again" and session.last is not None and session.last[1][0] == "step":
            start, (_, tokens) = session.last
            expected = self._graph.read(tokens, session.before[0])[0].tobytes()
        else:
            y, state = self._graph.read(tokens, session.now[0])
            self._moved(session, ("step", tokens), len(tokens), (state, y[-1]))
            expected = y.tobytes()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def reply(result: StepResult | ServiceError) -> None:
            assert isinstance(result, StepResult)
            answer.set_result(result.outputs["y"].tobytes())

        self._dataplane.step(
            np.array([session.handle], np.uint64),
            np.array([start], np.uint64),
            np.array([len(tokens)], np.uint32),
            {"x": np.array(tokens, np.int32)},
            owner="",
            deadline_s=None,
            reply=reply,
        )
        return expected, answer

    def _generate(self, session: Expected, kind: str, wish: Any) -> Any:
        seed = int(self._random.integers(3))
        start = session.position + (3 if kind == "ahead" else 0)
        if kind == "again" and session.last is not None and session.last[1][0] == "generate":
            start, (_, wish, seed) = session.last
            tokens, position, _ = self._said(start, session.before, wish, seed)
            expected: Any = (tokens, position)
        elif kind == "ahead":
            expected = Reason.POSITION_MISMATCH
        elif kind == "given up":
            expected = Reason.CANCELLED
        else:
            tokens, position, after = self._said(start, session.now, wish, seed)
            expected = (tokens, position)
            if position > start:
                self._moved(session, ("generate", wish, seed), position - start, after)
        ticket = CancellationToken(cancelled=kind == "given up")
        return expected, asyncio.create_task(self._asked(session.handle, start, wish, seed, ticket))

    async def _asked(self, handle: int, start: int, wish: Any, seed: int, ticket: CancellationToken) -> Any:
        steps, temperature, top_k = wish
        parts = self._generator.generate(
            np.array([handle], np.uint64),
            np.array([start], np.uint64),
            np.array([steps], np.uint32),
            lambda _: Sampling(
                np.array([temperature], np.float32), np.array([top_k], np.int32), np.array([seed], np.uint64)
            ),
            ticket,
            owner="",
        )
        tokens: list[int] = []
        position = start
        try:
            async with aclosing(parts) as coming:
                async for part in coming:
                    if part.failures:
                        return part.failures[0].reason
                    tokens += part.chunk.values.tolist()
                    position = int(part.chunk.positions[0])
        except ServiceError as error:
            return error.reason
        return tokens, position

    def _said(self, start: int, now: Any, wish: Any, seed: int) -> Any:
        """Tokens, the position after them, and state and last output then."""
        steps, temperature, top_k = wish
        (state, last), position = now, start
        if position == 0:
            y, state = self._graph.read([BEGIN], state)
            last, position = y[-1], 1
        tokens: list[int] = []
        for number in uniform_numbers(seed, position, steps):
            (token,) = draw_tokens(
                last[None], np.array([number]), temperature=temperature, top_k=top_k
            ).tolist()
            tokens.append(token)
            if token == END:
                break
            y, state = self._graph.read([token], state)
            last, position = y[-1], position + 1
        return tokens, position, (state, last)
