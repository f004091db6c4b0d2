"""What rows of one request emit, from the jobs that make it to whoever iterates.

No decisions about requests: who starts a flow ends it, and with it every task in it.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, model_fault
from statewise.service.dataplane._emitted import GeneratedPart
from statewise.service.dataplane._job_calls import CancellationToken, run
from statewise.service.engine import Sampling
from statewise.service.registry import LoadedModel
from statewise.service.scheduling import EmittedChunk, GenerationJob
from statewise.service.session_state import UndeliveredBytes
from statewise.wire import DTYPES


class PartChannel:
    """Parts in a queue, and the tasks that put them there."""

    def __init__(self) -> None:
        self._parts: asyncio.Queue[GeneratedPart | None] = asyncio.Queue()  # None: a task has ended
        self._tasks: list[asyncio.Task[Any]] = []

    def put(self, part: GeneratedPart) -> None:
        """Adds a part."""
        self._parts.put_nowait(part)

    def put_faults(self, rows: NDArray[np.intp]) -> None:
        """Adds the failure of rows that the model failed on, where there are any."""
        if len(rows):
            self.put(GeneratedPart(None, failures=[model_fault(row) for row in rows.tolist()]))

    def start(self, work: Coroutine[Any, Any, Any], *, then: Callable[[], None]) -> None:
        """Starts a task that puts parts; calls `then` when it has ended."""
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: then())
        task.add_done_callback(lambda _: self._parts.put_nowait(None))
        self._tasks.append(task)

    async def parts(self) -> AsyncGenerator[GeneratedPart]:
        """Parts as they come, until all tasks have ended; raises the failure of one that failed."""
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
        """What the tasks gave, once `parts` has come to its end."""
        return [task.result() for task in self._tasks]

    async def end(self) -> None:
        """Ends every task."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextmanager
def reserve_capacity(
    model: LoadedModel, undelivered: UndeliveredBytes, owner: int, time_steps: int
) -> Iterator[Callable[[int], None]]:
    """Counts a request's time steps as waiting, and the values it may emit as not delivered.

    Gives a function that counts so many time steps as done, for the values may be delivered long after.

    Raises:
        ServiceError: QUEUE_FULL, BYTES_LIMIT; WRONG_CALL where the model does not generate.
    """
    emitted = model.require_generator().spec.emitted
    size = time_steps * DTYPES[emitted.dtype].itemsize * math.prod(emitted.shape)
    with model.scheduler.reserve_capacity(time_steps) as release_steps:
        undelivered.take(owner, size)
        try:
            yield release_steps
        finally:
            undelivered.give_back(owner, size)


async def write_rows(
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
    """Lets rows of a request emit into a flow, from given states.

    Raises:
        ServiceError: the rows as a whole failed, or were given up.
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
    job: GenerationJob = await run(model.scheduler, make, cancellation)
    channel.put_faults(rows[sorted(job.failed)])
    return job
