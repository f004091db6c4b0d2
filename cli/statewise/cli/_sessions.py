"""Implements `statewise sessions`: lists the open sessions of a server."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from statewise.cli._connection import Connection, complete_models, with_connection
from statewise.cli._terminal import JsonFlag, print_json, stdout_console
from statewise.client import SessionInfo


@with_connection
def sessions(
    connection: Connection,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", autocompletion=complete_models, help="Only sessions of this model."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Lists the open sessions of a server, the most recently used first.

    For example:

      statewise sessions

      statewise sessions --model gait --json
    """
    with connection.client() as client:
        listed = sorted(client.list_sessions(model=model), key=lambda session: session.idle_s)
    if as_json:
        print_json({"sessions": [asdict(session) for session in listed]})
        return
    table = Table("session", "owner", "model", "position", "durable", "idle", "state")
    for session in listed:
        table.add_row(*map(escape, _row(session)))
    stdout_console().print(table)


def _row(session: SessionInfo) -> tuple[str, ...]:
    return (
        session.id,
        session.owner,
        f"{session.model}/{session.version}",
        f"{session.position:,}",
        f"{session.durable_position:,}",
        f"{session.idle_s:,.0f} s",
        "not finite" if session.nonfinite_state else "finite",
    )
