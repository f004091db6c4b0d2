"""Implements `statewise top`: shows the activity of a server while it runs.

Rates are computed between two reports of the server, so the first output comes one interval after the start.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import pairwise
from typing import Annotated, Any

import typer
from rich.live import Live

from statewise.cli._connection import Connection, with_connection
from statewise.cli._terminal import exits_on, print_json, stdout_console
from statewise.cli._top._activity import Activity, activity, screen
from statewise.client import ServerStats, StatewiseError

IntervalOption = Annotated[
    float, typer.Option(metavar="SECONDS", min=0.1, max=3600, help="Time between two reports.")
]
OnceFlag = Annotated[bool, typer.Option("--once", help="Print one report and exit.")]
JsonLinesFlag = Annotated[
    bool, typer.Option("--json", help="Print one JSON object a report, one a line, instead of the table.")
]


@exits_on(StatewiseError)
@with_connection
def top(
    connection: Connection,
    interval: IntervalOption = 1.0,
    once: OnceFlag = False,
    as_json: JsonLinesFlag = False,
) -> None:
    """Shows the activity of a server by model: sessions, rates, latencies, rows a run, queues, memory.

    On a terminal the table is updated until Ctrl-C. Without a terminal the command prints one report. With
    --json it prints reports until Ctrl-C.

    For example:

      statewise top

      statewise top --once --json | jq '.models[] | {model, steps_per_s}'
    """
    with connection.client() as client:
        reports = _between(client.watch_stats(interval=interval))
        try:
            if once or not (as_json or stdout_console().is_terminal):
                _print(next(reports), connection.target, as_json=as_json)
            elif as_json:
                for report in reports:
                    _print(report, connection.target, as_json=True)
            else:
                _show_live(reports, connection.target)
        except KeyboardInterrupt:
            return


def _show_live(reports: Iterable[Activity], target: str) -> None:
    with Live(console=stdout_console(), screen=True, auto_refresh=False) as live:
        for report in reports:
            live.update(screen(report, target), refresh=True)


def _between(stats: Iterable[ServerStats]) -> Iterator[Activity]:
    for earlier, later in pairwise(stats):
        yield activity(earlier, later)


def _print(report: Activity, target: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_to_json(report))
    else:
        stdout_console().print(screen(report, target))


def _to_json(report: Activity) -> dict[str, Any]:
    return {**asdict(report), "at": report.at.isoformat()}
