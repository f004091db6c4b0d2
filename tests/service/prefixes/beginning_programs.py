"""Sends requests that begin alike, several at once, some of which are given up or late, and compares answers.

Answers are those of a server that keeps no beginnings. A request of an owner who never sent its first chunk
before starts behind nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from tests.helpers.arrays import Array
from tests.helpers.models.small import SmallModels

from statewise.service import ServiceError
from statewise.service.base import StepResult
from statewise.wire import Reason

from .plane import CHUNK, Plane

OWNERS = ("ann", "bob", "cas")
STEM_CHUNKS = 8
STEPPED = ("steps", "last")
GENERATED = ("chatter", "drift")
LATE_S = 2.0
"""Seconds that pass in the middle of every burst: a request with a deadline may be too late."""

# A beginning, how much of it a row has, and how many time steps it has of its own.
ROW = st.tuples(
    st.integers(0, 1),
    st.one_of(st.integers(0, STEM_CHUNKS).map(lambda chunks: chunks * CHUNK), st.integers(0, 60)),
    st.sampled_from([0, 1, 3, CHUNK, 2 * CHUNK + 1]),
)
ROWS = st.lists(ROW, min_size=1, max_size=3)
FATE = st.sampled_from(["answered"] * 4 + ["given up", "late"])
OWNER = st.sampled_from(OWNERS)
REQUEST = st.one_of(
    st.tuples(st.just("predict"), st.sampled_from(STEPPED), ROWS, OWNER, FATE),
    st.tuples(st.just("predict"), st.sampled_from(STEPPED), ROWS, OWNER, FATE),
    st.tuples(st.just("begin"), st.sampled_from(STEPPED), ROWS, OWNER, FATE),
    st.tuples(st.just("begin"), st.sampled_from(STEPPED), ROWS, OWNER, FATE),
    st.tuples(st.just("generate"), st.sampled_from(GENERATED), ROWS, OWNER, st.just("answered")),
)
Request = tuple[str, str, list[tuple[int, int, int]], str, str]
TEXT = st.tuples(st.just("encode"), st.integers(1, 30))
PROGRAM = st.lists(
    st.tuples(st.lists(REQUEST, min_size=1, max_size=8), st.lists(TEXT, max_size=2), st.integers(0, 6)),
    min_size=1,
    max_size=5,
)
Program = list[tuple[list[Request], list[tuple[str, int]], int]]


class BeginningPrograms:
    """Runs programs.

    Args:
        plane: Keeps beginnings.
        plain: Keeps none.
        small_models: Oracles.
    """

    def __init__(self, plane: Plane, plain: Plane, small_models: SmallModels) -> None:
        self._plane = plane
        self._plain = plain
        self._small_models = small_models
        self._number = 0
        self._random = np.random.default_rng(0)
        self._stems: dict[str, list[Array]] = {}
        self._sent: set[tuple[str, str, bytes]] = set()

    async def run(self, program: Program, seed: int) -> None:
        """Runs one program, whose owners sent nothing before."""
        self._number += 1
        self._random = np.random.default_rng(seed)
        self._stems = {
            model: [self._draw(model, STEM_CHUNKS * CHUNK) for _ in range(2)]
            for model in (*STEPPED, *GENERATED)
        }
        self._sent.clear()
        for requests, texts, turns in program:
            await self._burst(requests, texts, turns)

    async def _burst(self, requests: list[Request], texts: list[tuple[str, int]], turns: int) -> None:
        before = {model: self._plane.counts(model)[0] for model in self._stems}
        most: Counter[str] = Counter()
        checks: list[Awaitable[None]] = []
        leaving: list[Callable[[], Any]] = []
        new = set(self._sent)
        for kind, model, rows, owner, fate in requests:
            sequences = [row for row in (self._sequence(model, *row) for row in rows) if len(row)]
            if not sequences:
                continue
            name = f"{owner} {self._number}"
            for row in sequences:
                begins = (name, model, row[:CHUNK].tobytes())
                if len(row) >= CHUNK:
                    # Requests that are not answered are sent again.
                    most[model] += (begins in new) + (kind == "begin" and fate != "answered")
                new.add(begins)
            task = asyncio.create_task(getattr(self, f"_{kind}")(model, sequences, name, fate, leaving))
            checks.append(task)
        self._sent = new
        checks += [asyncio.create_task(self._encode(length)) for _, length in texts]
        for _ in range(turns):
            await asyncio.sleep(0)
        self._plane.clock.now_s += LATE_S
        for leave in leaving:
            leave()
        results = await asyncio.gather(*checks, return_exceptions=True)
        for result in results:
            if result is not None:
                raise result
        for model in STEPPED:  # what was given up may still run, and ends before what comes later
            await self._plane.predict(model, self._stems[model][0][:1])
        await self._plane.turn_loop()
        for model, hits in before.items():
            assert self._plane.counts(model)[0] - hits <= most[model]
            assert self._plane.queued(model) == 0

    def _draw(self, model: str, steps: int) -> Array:
        if model == "chatter":
            return self._random.integers(1, 7, steps).astype(np.int32)
        return self._random.standard_normal((steps, 3)).astype(np.float32)

    def _sequence(self, model: str, stem: int, shared: int, own: int) -> Array:
        return np.concatenate([self._stems[model][stem][:shared], self._draw(model, own)])

    async def _predict(
        self, model: str, rows: Sequence[Array], owner: str, fate: str, leaving: list[Callable[[], Any]]
    ) -> None:
        deadline_s = self._plane.clock() + LATE_S / 2 if fate == "late" else None
        predicting = asyncio.ensure_future(
            self._plane.predict(model, *rows, owner=owner, deadline_s=deadline_s)
        )
        if fate == "given up":
            leaving.append(predicting.cancel)
        try:
            answers = await predicting
        except asyncio.CancelledError:
            if fate != "given up":
                raise
            return
        except ServiceError as error:
            if (error.reason, fate) != (Reason.DEADLINE, "late"):
                raise
            return
        for row, y in zip(rows, answers, strict=True):
            if isinstance(y, str):
                assert (y, fate) == ("DEADLINE", "late")
            else:
                assert y.tobytes() == self._small_models.find(model).run(row)[0].tobytes()

    async def _begin(
        self, model: str, rows: Sequence[Array], owner: str, fate: str, leaving: list[Callable[[], Any]]
    ) -> None:
        """Opens sessions, and sends their first requests; sends them again where they were not answered."""
        handles = await self._plane.open(model, len(rows), owner=owner)
        deadline_s = self._plane.clock() + LATE_S / 2 if fate == "late" else None
        stepping = self._plane.begin_step(handles, [0] * len(rows), *rows, owner=owner, deadline_s=deadline_s)
        if fate == "given up" and stepping.batch is not None:
            batch = stepping.batch
            leaving.append(lambda: setattr(batch, "cancelled", True))
        answer = await stepping.answer()
        failed = {failure.row for failure in answer.failures} if isinstance(answer, StepResult) else rows
        if failed or isinstance(answer, ServiceError):
            assert fate != "answered", answer
            again = [self._plane.begin_step([handle], [0], row, owner=owner)
                     for handle, row in zip(handles, rows, strict=True)]  # fmt: skip
            said = [(await one.rows())[0] for one in again]
        else:
            said = await stepping.rows()
        oracle = self._small_models.find(model)
        for handle, row, y in zip(handles, rows, said, strict=True):
            whole, state = oracle.run(row)
            assert y.tobytes() == whole.tobytes()
            further = self._draw(model, 2)
            (y,) = await self._plane.step([handle], [len(row)], further, owner=owner)
            assert y.tobytes() == oracle.run(further, state)[0].tobytes()
        await self._plane.dataplane.sessions.close(np.array(handles, np.uint64), owner=owner)

    async def _generate(
        self, model: str, rows: Sequence[Array], owner: str, fate: str, leaving: list[Callable[[], Any]]
    ) -> None:
        seed = int(self._random.integers(99))
        said = await self._plane.generate(model, *rows, steps=5, owner=owner, seed=seed)
        assert said == await self._plain.generate(model, *rows, steps=5, owner=owner, seed=seed)

    async def _encode(self, length: int) -> None:
        """Opens what an encoder reads."""
        text = ("pqrst" * 6)[:length]
        assert await self._plane.encode("speech", text) == await self._plain.encode("speech", text)
