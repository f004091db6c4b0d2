"""`score` by blocking: the caller's thread reads the source and gives results, others wait for answers.

Leaving the iteration early ends the requests under way, on the server too.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from queue import SimpleQueue

from statewise.client._sync._shell import CallScope, SyncShell
from statewise.client.bulk import REQUESTS_IN_FLIGHT, Meter, Outcome, Report, SampleSource, ScoreBatch, Scored


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
) -> Iterator[Scored]:
    """Results in the order of the source. Arguments as for `Client.score`."""
    timeout_s = shell.core.timeout_s(timeout)
    scoring, answer = shell.run(
        shell.core.sequences.scoring(model, start=start, version=version, labels=labels, timeout_s=timeout_s)
    )
    meter = report and Meter(report, clock=shell.core.clock, total=source.total(), done=start)
    answered: SimpleQueue[tuple[ScoreBatch, Future[list[Outcome]]]] = SimpleQueue()
    scope = CallScope()

    def ask(batch: ScoreBatch) -> None:
        future = shell.begin(answer(batch), scope, threads)
        future.add_done_callback(lambda done: answered.put((batch, done)))

    with (
        closing(source.items(start)) as items,
        ThreadPoolExecutor(REQUESTS_IN_FLIGHT, thread_name_prefix="statewise-score") as threads,
    ):
        try:
            while not scoring.finished:
                if scoring.hungry and answered.empty():
                    try:
                        scoring.offer(next(items))
                    except StopIteration:
                        scoring.end()
                elif scoring.in_flight:
                    batch, done = answered.get()
                    scoring.answered(batch, done.result())
                while (batch_to_send := scoring.take()) is not None:
                    ask(batch_to_send)
                for scored in scoring.results():
                    if meter is not None:
                        meter.count(failed=scored.error is not None)
                    yield scored
        finally:
            scope.end()
            if meter is not None:
                meter.close()
