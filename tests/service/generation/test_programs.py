"""Steps, generates with, copies, rewinds and abandons sessions by random programs.

The programs drive the dataplane without transport. The oracle is the read graph in onnxruntime and the
training side's draw, one row alone. Temperatures are 0 and 1, where both sides weigh alike to the bit.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.helpers.arrays import Floats

from statewise.models import draw_tokens, uniform_numbers
from statewise.service import ServiceError, Settings
from statewise.service.assembly import build_dataplane
from statewise.service.base import RowFailure, StepResult
from statewise.service.dataplane import CancellationToken, Dataplane, OpenedSession, SessionGenerator
from statewise.service.engine import Sampling
from statewise.wire import Reason

IDS = ("a", "b", "c")
BEGIN, END = 7, 0

NAME = st.sampled_from(IDS)
OPTIONS = st.tuples(st.sampled_from([1, 2, 9, 30]), st.sampled_from([0.0, 1.0]), st.sampled_from([0, 2]))
KIND = st.sampled_from(["now", "now", "again", "ahead", "given up"])
REQUEST = st.one_of(
    st.tuples(st.just("step"), NAME, st.sampled_from(["now", "again"]), st.sampled_from([1, 1, 3])),
    st.tuples(st.just("generate"), NAME, KIND, OPTIONS),
)
PROGRAM = st.lists(
    st.one_of(
        st.tuples(st.just("burst"), st.lists(REQUEST, min_size=1, max_size=6)),
        st.tuples(st.sampled_from(["close", "rewind"]), NAME),
        st.tuples(st.sampled_from(["fork", "restore"]), st.tuples(NAME, NAME)),
        st.tuples(st.just("leave"), st.tuples(NAME, NAME, st.integers(0, 30), OPTIONS)),
    ),
    min_size=1,
    max_size=8,
)


Options = tuple[int, float, int]
"""Steps, temperature and top_k."""
Request = tuple[str, str, str, Any]
"""Operation, session, kind, and the operation's detail: steps, or `Options`."""
Memory = tuple[Floats | None, Floats | None]
"""State [1, S] and last output [V]; None before the first step."""
Answer = bytes | tuple[list[int], int] | Reason
"""Outputs of a step; tokens of a generation and the position after them; or why it failed."""
Awaited = tuple[Answer, Awaitable[Answer]]
"""The answer that is expected, and the one that comes."""


class Graph:
    """Runs the read graph for one row."""

    def __init__(self, path: Path) -> None:
        self._session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (self._state,) = [e.shape[1] for e in self._session.get_inputs() if e.name == "state"]

    def read(self, tokens: Sequence[int], state: Floats | None) -> tuple[Floats, Floats]:
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
    """The expected state of a session."""

    handle: int
    position: int = 0
    now: Memory = (None, None)
    before: Memory = (None, None)
    """What the session held before its last request."""
    last: tuple[int, tuple[Any, ...]] | None = None
    """The last request: its start position, and its operation with all details."""


@pytest.fixture(scope="module", params=["letters", "letters_outside"])
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(
    scope="module",
    params=[{}, {"inline_s": 0.0, "piece_s": 1e-9}],
    ids=["as it is", "pieces of one step in threads"],
)
def dataplane(generative: Path, request: pytest.FixtureRequest) -> Iterator[Dataplane]:
    limits = Settings(repository=generative, load_in_child=False, sessions=16, **request.param)
    with ThreadPoolExecutor(1) as executor:
        dataplane = build_dataplane(limits, executor=executor)
        asyncio.run(dataplane.models.load_all())
        yield dataplane


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=PROGRAM, seed=st.integers(0, 2**32 - 1))
def test_every_answer_is_the_oracles(
    dataplane: Dataplane, generative: Path, model: str, program: list[tuple[str, Any]], seed: int
) -> None:
    graph = Graph(generative / model / "1" / "model.onnx")
    asyncio.run(Driver(dataplane, graph, model, np.random.default_rng(seed)).run(program))
    loaded = dataplane.models.find(model)
    assert (len(dataplane.table), loaded.arena.used_rows, loaded.scheduler.queued_steps) == (0, 0, 0)
    assert not dataplane.table.busy.any()


class Driver:
    """Runs a program, computes the expected answer of each operation, and compares."""

    def __init__(self, dataplane: Dataplane, graph: Graph, model: str, random: np.random.Generator) -> None:
        self._dataplane = dataplane
        self._generator = SessionGenerator(dataplane)
        self._graph = graph
        self._model = model
        self._random = random
        self._sessions: dict[str, Expected] = {}

    async def run(self, program: list[tuple[str, Any]]) -> None:
        """Runs the program, then closes all sessions."""
        for name, detail in program:
            await getattr(self, name)(detail)
        # An abandoned generation may still run; a request that comes later ends after it.
        await self.burst([("generate", "a", "now", (1, 0.0, 0))])
        for name in list(self._sessions):
            await self.close(name)

    # --- operations ---

    async def burst(self, requests: list[Request]) -> None:
        """Sends requests without waiting for answers, each after what was sent before."""
        await self._open(name for _, name, _, _ in requests)
        answers = []
        for what, name, kind, detail in requests:
            expected, answer = getattr(self, f"_{what}")(self._sessions[name], kind, detail)
            answers.append((expected, answer))
            await asyncio.sleep(0)
        for expected, answer in answers:
            assert await answer == expected

    async def leave(self, detail: tuple[str, str, int, Options]) -> None:
        """Cancels a generation some turns of the loop later; a step of another session waits behind it."""
        name, other, turns, options = detail
        await self._open((name, other))
        session, seed = self._sessions[name], int(self._random.integers(3))
        start = session.position
        _, position, after = self._said(start, session.now, options, seed)
        asked = asyncio.create_task(self._asked(session.handle, start, options, seed, CancellationToken()))
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
        # The generation was applied as a whole, or not at all.
        held = (await self._dataplane.session_administration.get(name, owner="")).position
        assert held in (start, position)
        if held > start:
            self._moved(session, ("generate", options, seed), position - start, after)

    async def close(self, name: str) -> None:
        """Ends a session."""
        if name in self._sessions:
            assert not await self._dataplane.sessions.close(self._handles(name), owner="")
            del self._sessions[name]

    async def rewind(self, name: str) -> None:
        """Takes the last request back, where there is one."""
        session = self._sessions.get(name)
        if session is None or session.last is None:
            return
        start = session.last[0]
        positions = np.array([start], np.uint64)
        (rewound,), _ = await self._dataplane.sessions.rewind(self._handles(name), positions, owner="")
        assert rewound.view.position == start
        session.position, session.now, session.last = start, session.before, None

    async def fork(self, names: tuple[str, str]) -> None:
        """Copies a session with its last output."""
        if names[0] in self._sessions:
            made = await self._dataplane.sessions.fork(self._handles(names[0]), [names[1]], owner="")
            self._copied(*names, *made)

    async def restore(self, names: tuple[str, str]) -> None:
        """Copies a session through a snapshot."""
        if names[0] in self._sessions:
            tokens, _ = await self._dataplane.sessions.snapshot(self._handles(names[0]), owner="")
            made, failures = await self._dataplane.sessions.restore(tokens, [names[1]], owner="")
            self._copied(*names, made, failures)

    # --- parts of operations ---

    async def _open(self, names: Iterable[str]) -> None:
        for name in dict.fromkeys(names):
            if name not in self._sessions:
                (opened,), _ = await self._dataplane.sessions.open(self._model, 0, [name], owner="")
                self._sessions[name] = Expected(opened.view.handle)

    def _handles(self, name: str) -> npt.NDArray[np.uint64]:
        return np.array([self._sessions[name].handle], np.uint64)

    def _copied(
        self, name: str, twin: str, made: Sequence[OpenedSession], failures: Sequence[RowFailure]
    ) -> None:
        if twin in self._sessions:
            assert [failure.reason for failure in failures] == [Reason.SESSION_EXISTS]
            return
        original = self._sessions[name]
        assert made[0].view.position == original.position
        self._sessions[twin] = Expected(made[0].view.handle, original.position, original.now)

    def _moved(self, session: Expected, asked: tuple[Any, ...], steps: int, after: Memory) -> None:
        session.before, session.now = session.now, after
        session.last = (session.position, asked)
        session.position += steps

    def _step(self, session: Expected, kind: str, steps: int) -> Awaited:
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

    def _generate(self, session: Expected, kind: str, options: Options) -> Awaited:
        seed = int(self._random.integers(3))
        start = session.position + (3 if kind == "ahead" else 0)
        if kind == "again" and session.last is not None and session.last[1][0] == "generate":
            start, (_, options, seed) = session.last
            tokens, position, _ = self._said(start, session.before, options, seed)
            expected: Answer = (tokens, position)
        elif kind == "ahead":
            expected = Reason.POSITION_MISMATCH
        elif kind == "given up":
            expected = Reason.CANCELLED
        else:
            tokens, position, after = self._said(start, session.now, options, seed)
            expected = (tokens, position)
            if position > start:
                self._moved(session, ("generate", options, seed), position - start, after)
        cancellation = CancellationToken(cancelled=kind == "given up")
        return expected, asyncio.create_task(self._asked(session.handle, start, options, seed, cancellation))

    async def _asked(
        self, handle: int, start: int, options: Options, seed: int, cancellation: CancellationToken
    ) -> Answer:
        steps, temperature, top_k = options
        parts = self._generator.generate(
            np.array([handle], np.uint64),
            np.array([start], np.uint64),
            np.array([steps], np.uint32),
            lambda _: Sampling(
                np.array([temperature], np.float32), np.array([top_k], np.int32), np.array([seed], np.uint64)
            ),
            cancellation,
            owner="",
        )
        tokens: list[int] = []
        position = start
        try:
            async with aclosing(parts) as coming:
                async for part in coming:
                    if part.failures:
                        return part.failures[0].reason
                    assert part.chunk is not None
                    assert part.chunk.positions is not None
                    tokens += part.chunk.values.tolist()
                    position = int(part.chunk.positions[0])
        except ServiceError as error:
            return error.reason
        return tokens, position

    def _said(self, start: int, now: Memory, options: Options, seed: int) -> tuple[list[int], int, Memory]:
        """Tokens, the position after them, and what the session holds then."""
        steps, temperature, top_k = options
        (state, last), position = now, start
        if position == 0:
            y, state = self._graph.read([BEGIN], state)
            last, position = y[-1], 1
        tokens: list[int] = []
        for number in uniform_numbers(seed, position, steps):
            assert last is not None
            (token,) = draw_tokens(
                last[None], np.array([number]), temperature=temperature, top_k=top_k
            ).tolist()
            tokens.append(token)
            if token == END:
                break
            y, state = self._graph.read([token], state)
            last, position = y[-1], position + 1
        return tokens, position, (state, last)
