"""Scores by blocking: the caller's thread reads the source and yields results, others wait for responses.

If the caller stops early, requests under way are cancelled, on the server too.
"""

from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing
from queue import SimpleQueue

from statewise.client._sync._shell import SyncShell
from statewise.client.bulk import (
    Item,
    Meter,
    Outcome,
    Report,
    SampleSource,
    ScoreBatch,
    Scored,
    Scoring,
)


def score(
    shell: SyncShell,
    source: SampleSource,
    report: Report | None,
    *,
    model: str,
    start: int,
    version: int | None,
    labels: bool,
    timeout: float | None,
) -> Generator[Scored, None, None]:
    """Yields results in the order of the source. Arguments as for `Client.score`."""
    timeout_s = shell.core.timeout_s(timeout)
    scoring, answer = shell.run(
        shell.core.sequences.scoring(model, start=start, version=version, labels=labels, timeout_s=timeout_s)
    )
    meter = report and Meter(report, clock=shell.core.clock, total=source.total(), done=start)
    answered: SimpleQueue[tuple[ScoreBatch, Future[list[Outcome]]]] = SimpleQueue()

    def send(batch: ScoreBatch) -> None:
        future = shell.begin(answer(batch), scope)
        future.add_done_callback(lambda done: answered.put((batch, done)))

    with ExitStack() as ending:
        items = ending.enter_context(closing(source.items(start)))
        scope = ending.enter_context(shell.scope())
        if meter is not None:
            ending.callback(meter.close)
        while not scoring.finished:
            if scoring.hungry and answered.empty():
                _offer_next(scoring, items)
            elif scoring.in_flight:
                batch, done = answered.get()
                scoring.answered(batch, done.result())
            while (batch_to_send := scoring.take()) is not None:
                send(batch_to_send)
            for scored in scoring.results():
                if meter is not None:
                    meter.count(failed=scored.error is not None)
                yield scored


def _offer_next(scoring: Scoring, items: Iterator[Item]) -> None:
    """Offers the next sample of the source, or ends the run's input."""
    try:
        scoring.offer(next(items))
    except StopIteration:
        scoring.end()
