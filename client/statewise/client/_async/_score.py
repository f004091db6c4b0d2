"""`score` by awaiting: one task reads the source, one a request waits for its answer.

Leaving the iteration early ends the requests under way, on the server too.
"""

# ruff: noqa: ASYNC109 - a timeout here is that of each request

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing, closing, suppress

from statewise.client._async._shell import AsyncShell
from statewise.client.bulk import Item, Meter, Report, SampleSource, ScoreBatch, Scored, sample_of

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
) -> AsyncIterator[Scored]:
    """Results in the order of the source. Arguments as for `AsyncClient.score`."""
    shell = opened()  # not before the loop runs
    timeout_s = shell.core.timeout_s(timeout)
    scoring, answer = await shell.run(
        shell.core.sequences.scoring(model, start=start, version=version, labels=labels, timeout_s=timeout_s)
    )
    total = source.total() if isinstance(source, SampleSource) else None
    meter = report and Meter(report, clock=shell.core.clock, total=total, done=start)
    room, progress = asyncio.Event(), asyncio.Event()
    running: set[asyncio.Task[None]] = set()

    async def read() -> None:
        async with aclosing(_items(source, start)) as items:
            async for item in items:
                while not scoring.hungry:
                    room.clear()
                    await room.wait()
                scoring.offer(item)
                send()
        scoring.end()

    async def ask(batch: ScoreBatch) -> None:
        scoring.answered(batch, await shell.run(answer(batch)))

    def send() -> None:
        while (batch := scoring.take()) is not None:
            begin(asyncio.create_task(ask(batch)))
        # Samples that wait for company, and those that failed at once, are for the main loop to see to.
        progress.set()

    def begin(task: asyncio.Task[None]) -> None:
        running.add(task)
        task.add_done_callback(lambda _: progress.set())

    begin(asyncio.create_task(read()))
    try:
        while not scoring.finished:
            with suppress(TimeoutError):
                await asyncio.wait_for(progress.wait(), scoring.due_in_s)
            progress.clear()
            for task in [task for task in running if task.done()]:
                running.discard(task)
                task.result()
            send()
            progress.clear()
            for scored in scoring.results():
                if meter is not None:
                    meter.count(failed=scored.error is not None)
                yield scored
            room.set()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if meter is not None:
            meter.close()


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
