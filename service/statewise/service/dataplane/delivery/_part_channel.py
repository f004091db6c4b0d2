"""Streams generated parts from background jobs to the caller's async iterator.

Decides nothing about requests. The request that starts a channel also ends the channel and every task in it.
"""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, model_fault
from statewise.service.dataplane.delivery._emitted import GeneratedPart
from statewise.service.dataplane.delivery._job_calls import CancellationToken, run_job
from statewise.service.dataplane.delivery._undelivered_bytes import UndeliveredBytes
from statewise.service.engine import Sampling
from statewise.service.registry import LoadedModel
from statewise.service.scheduling import EmittedChunk, GenerationJob
from statewise.wire import DTYPES

_log = logging.getLogger(__name__)


class PartChannel:
    """A queue of parts, and the tasks that fill it."""

    def __init__(self) -> None:
        self._parts: asyncio.Queue[GeneratedPart | None] = asyncio.Queue()  # None: a task has ended
        self._tasks: list[asyncio.Task[Any]] = []

    def put(self, part: GeneratedPart) -> None:
        """Adds a part."""
        self._parts.put_nowait(part)

    def put_faults(self, rows: NDArray[np.intp], *message: str) -> None:
        """Adds a part with the failures of rows that the model failed on; no rows: no part."""
        if len(rows):
            self.put(GeneratedPart(None, failures=[model_fault(row, *message) for row in rows.tolist()]))

    def start(self, work: Coroutine[Any, Any, Any], *, on_end: Callable[[], None]) -> None:
        """Starts a task that puts parts; calls `on_end` when it has ended."""
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: on_end())
        task.add_done_callback(lambda _: self._parts.put_nowait(None))
        self._tasks.append(task)

    async def parts(self) -> AsyncGenerator[GeneratedPart]:
        """Parts as they come, until all tasks have ended; raises the error of a task that failed."""
        running = len(self._tasks)
        while running or not self._parts.empty():
            part = await self._parts.get()
            if part is not None:
                yield part
                continue
            running -= 1
            for task in self._tasks:
                if task.done():
                    task.result()

    def results(self) -> list[Any]:
        """Results of the tasks, after `parts` has ended."""
        return [task.result() for task in self._tasks]

    async def end(self) -> None:
        """Cancels every task, and waits for its end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextmanager
def reserve_capacity(
    model: LoadedModel, undelivered: UndeliveredBytes, owner: int, rows: int, time_steps: int
) -> Iterator[Callable[[int], None]]:
    """Counts a request's time steps as waiting, and bytes of its states and values as held, until it ends.

    Yields a function that releases so many time steps, which may run long before their values are delivered.

    Raises:
        ServiceError: QUEUE_FULL, BYTES_LIMIT; WRONG_CALL where the model does not generate.
    """
    emitted = model.require_generator().spec.emitted
    size = rows * model.state_bytes + time_steps * DTYPES[emitted.dtype].itemsize * math.prod(emitted.shape)
    with model.scheduler.reserve_capacity(time_steps) as release_steps:
        undelivered.take(owner, size)
        try:
            yield release_steps
        finally:
            undelivered.give_back(owner, size)


async def generate_rows(
    model: LoadedModel,
    rows: NDArray[np.intp],
    channel: PartChannel,
    cancellation: CancellationToken,
    *,
    state: Sequence[Array],
    positions: NDArray[np.uint64],
    steps: NDArray[np.uint32],
    sampling: Sampling,
) -> GenerationJob:
    """Generates rows of a request into its channel, from given states.

    Raises:
        ServiceError: the rows as a whole failed, or were cancelled.
    """
    generator = model.require_generator()

    def put(chunk: EmittedChunk) -> None:
        own = replace(chunk, rows=rows[chunk.rows])
        channel.put(GeneratedPart(own, generator.spec.emitted.name))

    make: Any = partial(
        GenerationJob,
        generator.decode_loop,
        generator.profile,
        state=state,
        positions=positions,
        steps=steps,
        sampling=sampling,
        stop=generator.stop,
        on_chunk=put,
    )
    job: GenerationJob = await run_job(model.scheduler, make, cancellation)
    channel.put_faults(rows[sorted(job.failed - job.nonfinite)])
    channel.put_faults(rows[sorted(job.nonfinite)], "the model generated a number that is not finite")
    if job.nonfinite and model.scheduler.statistics.count_nonfinite(len(job.nonfinite)):
        _log.warning("%s/%d generates numbers that are not finite", *model.key)
    return job
