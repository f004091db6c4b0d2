"""Runs requests on a server's behaviour without a transport, and counts the time steps that it computes."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tests.helpers.arrays import Array

from statewise.service import Settings
from statewise.service.assembly import build_dataplane
from statewise.service.base import ServiceError, StepBatch, StepResult
from statewise.service.dataplane import (
    CancellationToken,
    Dataplane,
    GenerationInputs,
    Generator,
    given_states,
)
from statewise.service.engine import Sampling
from statewise.service.inputs import GivenStates, RawSequences

CHUNK = 8


class Clock:
    """Seconds that a test moves on."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Plane:
    """A server's behaviour, and a thread for its runs that can be held up.

    Args:
        dataplane: The behaviour.
        executor: Its thread.
        clock: Its clock.
    """

    def __init__(self, dataplane: Dataplane, executor: ThreadPoolExecutor, clock: Clock) -> None:
        self.dataplane = dataplane
        self.clock = clock
        self._executor = executor
        self._numbers = itertools.count()
        self._go_on: threading.Event | None = None

    # --- holding runs up ---

    def hold(self) -> None:
        """Lets all further runs wait."""
        self._go_on = threading.Event()
        self._executor.submit(self._go_on.wait, 60)

    def go_on(self) -> None:
        """Lets runs go on."""
        if self._go_on is not None:
            self._go_on.set()

    async def turn_loop(self) -> None:
        """Lets all run that does not wait for a run."""
        for _ in range(20):
            await asyncio.sleep(0)

    # --- requests ---

    async def predict(
        self,
        model: str,
        *sequences: Array,
        owner: str = "",
        deadline_s: float | None = None,
        state: Array | None = None,
        others: Mapping[str, Array] | None = None,
    ) -> list[Array | str]:
        """Predicts, all rows from `state`; gives the output of each row, or the reason of its failure."""
        lengths = np.array([len(one) for one in sequences], np.uint32)
        loaded = self.dataplane.models.find(model, 0)
        rows: dict[int, Array | str] = {}
        named = {} if state is None else {"state": np.stack([state] * len(sequences))}
        predicted = self.dataplane.predict(
            loaded,
            lengths,
            {loaded.package.spec.inputs[0].name: np.concatenate(sequences), **(others or {})},
            owner=owner,
            deadline_s=deadline_s,
            given=given_states(loaded, named, rows=len(sequences)),
        )
        async for part in predicted:
            rows.update((failure.row, failure.reason.value) for failure in part.failures)
            if not len(part.rows):
                continue
            (y,) = part.outputs
            per_step = loaded.package.spec.outputs[0].per_step
            pieces = np.split(y, np.cumsum(part.lengths)[:-1]) if per_step else list(y)
            rows.update(zip(part.rows.tolist(), pieces, strict=True))
        assert sorted(rows) == list(range(len(sequences)))
        return [rows[row] for row in range(len(sequences))]

    async def predict_all(self, model: str, row: Mapping[str, Array]) -> list[Array]:
        """Predicts one row; gives all its outputs."""
        steps = np.array([len(next(iter(row.values())))], np.uint32)
        loaded = self.dataplane.models.find(model, 0)
        predicted = self.dataplane.predict(loaded, steps, row, owner="", deadline_s=None)
        (part,) = [part async for part in predicted]
        assert not part.failures
        return list(part.outputs)

    async def step_all(self, handle: int, position: int, row: Mapping[str, Array]) -> list[Array]:
        """Steps one session; gives all its outputs."""
        stepping = Stepping(self.dataplane, [handle], [position], [next(iter(row.values()))], row)
        answer = await stepping.answer()
        assert isinstance(answer, StepResult), answer
        return list(answer.outputs.values())

    async def encode(self, model: str, text: str) -> list[bytes]:
        """Encodes a text; gives the states."""
        raw = RawSequences(text=(text,))
        encoded = await Generator(self.dataplane).encode(model, 0, raw, 1, CancellationToken(), owner="")
        assert encoded is not None
        assert not isinstance(encoded.state, GivenStates)
        return [array.tobytes() for array in encoded.state]

    async def open(self, model: str, count: int = 1, *, owner: str = "") -> list[int]:
        """Opens sessions; gives their handles."""
        ids = [f"session {next(self._numbers)}" for _ in range(count)]
        opened, failures = await self.dataplane.sessions.open(model, 0, ids, owner=owner)
        assert not failures
        return [session.view.handle for session in opened]

    def begin_step(
        self, handles: Sequence[int], positions: Sequence[int], *sequences: Array, **options: Any
    ) -> "Stepping":
        """Begins to step sessions."""
        return Stepping(self.dataplane, handles, positions, sequences, **options)

    async def step(
        self, handles: Sequence[int], positions: Sequence[int], *sequences: Array, **options: Any
    ) -> list[Array]:
        """Steps sessions; gives the output of each row."""
        return await self.begin_step(handles, positions, *sequences, **options).rows()

    async def generate(
        self, model: str, *prompts: Array, steps: int, owner: str = "", seed: int = 1
    ) -> list[list[Any]]:
        """Generates from prompts; gives what each row emitted."""
        lengths = np.array([len(one) for one in prompts], np.uint32)
        loaded = self.dataplane.models.find(model, 0)
        prompt = RawSequences({loaded.package.spec.inputs[0].name: np.concatenate(prompts)}, lengths)
        emitted: list[list[Any]] = [[] for _ in prompts]
        rows = len(prompts)
        seeds = np.full(rows, seed, np.uint64)
        sampling = Sampling(np.full(rows, 0.7, np.float32), np.zeros(rows, np.int32), seeds)
        generated = Generator(self.dataplane).generate(
            loaded,
            GenerationInputs(rows, RawSequences(), prompt),
            np.full(rows, steps, np.uint32),
            sampling,
            CancellationToken(),
            owner=owner,
        )
        async for part in generated:
            assert not part.failures
            if part.chunk is not None:
                pieces = np.split(part.chunk.values, np.cumsum(part.chunk.lengths)[:-1])
                for row, values in zip(part.chunk.rows.tolist(), pieces, strict=True):
                    emitted[row] += values.tolist()
        return emitted

    # --- counts ---

    def computed(self, model: str) -> int:
        """Time steps that runs of the read graph computed so far, those of the decode loop included."""
        statistics = self.dataplane.models.find(model, 0).scheduler.statistics
        return sum(counts.steps for counts in statistics.runs.values())

    def runs(self, model: str) -> int:
        """Runs of the read graph so far, those of the decode loop included."""
        statistics = self.dataplane.models.find(model, 0).scheduler.statistics
        return sum(counts.rows.count for counts in statistics.runs.values())

    def counts(self, model: str) -> tuple[int, int, int]:
        """Hits, misses and saved steps so far."""
        counts = self.dataplane.models.find(model, 0).prefix_counts
        return counts.hits, counts.misses, counts.saved_steps

    def queued(self, model: str) -> int:
        """Time steps that wait or run."""
        return self.dataplane.models.find(model, 0).queued_steps


class Stepping:
    """A step request under way. Arguments as for `Plane.step`."""

    def __init__(
        self,
        dataplane: Dataplane,
        handles: Sequence[int],
        positions: Sequence[int],
        sequences: Sequence[Array],
        inputs: Mapping[str, Array] | None = None,
        *,
        owner: str = "",
        deadline_s: float | None = None,
    ) -> None:
        self._lengths = [len(one) for one in sequences]
        self._answer: asyncio.Future[StepResult | ServiceError] = asyncio.get_running_loop().create_future()
        self.batch: StepBatch | None = dataplane.step(
            np.array(handles, np.uint64),
            np.array(positions, np.uint64),
            np.array(self._lengths, np.uint32),
            inputs or {"x": np.concatenate(sequences)},
            owner=owner,
            deadline_s=deadline_s,
            reply=self._answer.set_result,
        )

    @property
    def ended(self) -> bool:
        """Whether the answer is there."""
        return self._answer.done()

    async def answer(self) -> StepResult | ServiceError:
        """The answer."""
        return await self._answer

    async def rows(self) -> list[Array]:
        """The output of each row; all rows succeed."""
        answer = await self._answer
        assert isinstance(answer, StepResult), answer
        assert not answer.failures
        (y,) = answer.outputs.values()
        if len(y) == len(self._lengths) != sum(self._lengths):
            return list(y)
        return list(np.split(y, np.cumsum(self._lengths)[:-1]))


@asynccontextmanager
async def running_plane(repository: Path, **settings: Any) -> AsyncIterator[Plane]:
    """Loads a repository; beginnings are kept in 1 MB, in chunks of `CHUNK` steps, unless told otherwise."""
    chosen = {"prefix_bytes": 1_000_000, "prefix_chunk": CHUNK, **settings}
    with ThreadPoolExecutor(1) as executor:
        clock = Clock()
        dataplane = build_dataplane(
            Settings(repository=repository, load_in_child=False, **chosen), executor=executor, clock=clock
        )
        await dataplane.models.load_all()
        plane = Plane(dataplane, executor, clock)
        try:
            yield plane
        finally:
            plane.go_on()
            await dataplane.models.close()
