"""Scores by awaiting: one task reads the source, one task a request waits for its responses.

If the caller stops early, requests under way are cancelled, on the server too.
"""

# ruff: noqa: ASYNC109 - a timeout here is that of each request

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Sequence
from contextlib import aclosing, closing, suppress
from typing import Any

from statewise.client._async._shell import AsyncShell
from statewise.client.bulk import (
    Item,
    Meter,
    Outcome,
    Report,
    SampleSource,
    ScoreBatch,
    Scored,
    Scoring,
    sample_of,
)
from statewise.client.requests import Plan

_TURN_ITEMS = 64
"""Items of a source that never waits, between two turns of the event loop."""


async def score(
    opened: Callable[[], AsyncShell],
    source: SampleSource | AsyncIterable[object],
    report: Report | None,
    *,
    model: str,
    start: int,
    version: int | None,
    labels: bool,
    timeout: float | None,
) -> AsyncGenerator[Scored, None]:
    """Yields results in the order of the source. Arguments as for `AsyncClient.score`."""
    shell = opened()  # not before the loop runs
    timeout_s = shell.core.timeout_s(timeout)
    scoring, answer = await shell.run(
        shell.core.sequences.scoring(model, start=start, version=version, labels=labels, timeout_s=timeout_s)
    )
    total = source.total() if isinstance(source, SampleSource) else None
    meter = report and Meter(report, clock=shell.core.clock, total=total, done=start)
    tasks = _ScoreTasks(shell, scoring, answer)
    tasks.begin(tasks.read(_items(source, start)))
    try:
        while not scoring.finished:
            await tasks.advance()
            for scored in scoring.results():
                if meter is not None:
                    meter.count(failed=scored.error is not None)
                yield scored
            tasks.has_room.set()
    finally:
        await tasks.cancel()
        if meter is not None:
            meter.close()


class _ScoreTasks:
    """The tasks of one run: a reader of the source, and one for each request under way."""

    def __init__(
        self, shell: AsyncShell, scoring: Scoring, answer: Callable[[ScoreBatch], Plan[Sequence[Outcome]]]
    ) -> None:
        self._shell = shell
        self._scoring = scoring
        self._answer = answer
        self.has_room = asyncio.Event()
        """Set when the run may accept more samples."""
        self._progress = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts a task; its end counts as progress."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(lambda _: self._progress.set())

    async def read(self, samples: AsyncGenerator[Item, None]) -> None:
        """Offers samples while the run has room for them."""
        async with aclosing(samples) as items:
            async for item in items:
                while not self._scoring.hungry:
                    self.has_room.clear()
                    await self.has_room.wait()
                self._scoring.offer(item)
                self._send()
        self._scoring.end()

    async def advance(self) -> None:
        """Waits for progress, or until waiting samples are due, and sends the next requests.

        Raises:
            Exception: as a task raised it.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._progress.wait(), self._scoring.due_in_s)
        self._progress.clear()
        for task in [task for task in self._running if task.done()]:
            self._running.discard(task)
            task.result()
        self._send()
        self._progress.clear()

    async def cancel(self) -> None:
        """Cancels the tasks that still run, and waits for their end."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _send(self) -> None:
        while (batch := self._scoring.take()) is not None:
            self.begin(self._request(batch))
        # The main loop sends samples that wait for others, and yields those that failed at once.
        self._progress.set()

    async def _request(self, batch: ScoreBatch) -> None:
        self._scoring.answered(batch, await self._shell.run(self._answer(batch)))


async def _items(source: SampleSource | AsyncIterable[object], start: int) -> AsyncGenerator[Item, None]:
    if isinstance(source, SampleSource):
        with closing(source.items(start)) as items:
            for number, item in enumerate(items):
                if number % _TURN_ITEMS == 0:
                    await asyncio.sleep(0)
                yield item
        return
    index = 0
    async for value in source:
        if index >= start:
            yield sample_of(index, value)
        index += 1
