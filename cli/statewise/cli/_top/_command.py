"""`statewise top`: what a server is doing, as it does it.

Rates are between two reports of the server, so the first line comes one interval after the start.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import pairwise
from typing import Annotated, Any

import typer
from rich.live import Live

from statewise.cli._connection import Connection, connects
from statewise.cli._terminal import expects, print_json, results
from statewise.cli._top._activity import Activity, activity, screen
from statewise.client import ServerStats, StatewiseError


@expects(StatewiseError)
@connects
def top(
    connection: Connection,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, max=3600, help="Between two reports.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One report, and done.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object a report, one a line, in the place of the picture.")
    ] = False,
) -> None:
    """Shows what a server is doing: sessions, steps a second, latencies, batches, queues, memory by model.

    A terminal shows a picture that lives, anything else one report; with --json report follows report. Ctrl-C
    ends it.

    For example:

      statewise top

      statewise top --once --json | jq '.models[] | {model, steps_per_s}'
    """
    console = results()
    with connection.client() as client:
        reports = _between(client.watch_stats(interval=interval))
        try:
            if once or not (as_json or console.is_terminal):
                _print(next(reports), connection.target, as_json=as_json)
            elif as_json:
                for report in reports:
                    _print(report, connection.target, as_json=True)
            else:
                with Live(console=console, screen=True, auto_refresh=False) as live:
                    for report in reports:
                        live.update(screen(report, connection.target), refresh=True)
        except KeyboardInterrupt:
            return


def _between(stats: Iterable[ServerStats]) -> Iterator[Activity]:
    for earlier, later in pairwise(stats):
        yield activity(earlier, later)


def _print(report: Activity, target: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_plain(report))
    else:
        results().print(screen(report, target))


def _plain(report: Activity) -> dict[str, Any]:
    return {**asdict(report), "at": report.at.isoformat()}
