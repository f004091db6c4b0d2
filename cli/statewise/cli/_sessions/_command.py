"""Implements `statewise sessions`: lists the sessions of a server, awake and asleep; `show` describes one."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from statewise.cli._connection import Connection, complete_models, with_connection
from statewise.cli._sessions._show import show
from statewise.cli._terminal import (
    Command,
    JsonFlag,
    ListingGroup,
    print_json,
    remark,
    stdout_console,
    unless_subcommand,
)
from statewise.client import SessionInfo


class State(StrEnum):
    """Where a session is."""

    AWAKE = "awake"
    ASLEEP = "asleep"


_STATES: dict[State | None, Literal["awake", "asleep"] | None] = {
    None: None,
    State.AWAKE: "awake",
    State.ASLEEP: "asleep",
}


app = typer.Typer(
    cls=ListingGroup, invoke_without_command=True, pretty_exceptions_enable=False, add_completion=False
)
app.command("show", cls=Command)(show)


@app.callback()
@unless_subcommand
@with_connection
def sessions(
    ctx: typer.Context,
    connection: Connection,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", autocompletion=complete_models, help="Only sessions of this model."),
    ] = None,
    state: Annotated[
        State | None, typer.Option(help="Only sessions in memory (awake), or in the store alone (asleep).")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Sessions at most.")] = 10_000,
    as_json: JsonFlag = False,
) -> None:
    """Lists the sessions of a server, the most recently used first. Listing wakes no session.

    For example:

      statewise sessions

      statewise sessions --model gait --state awake --json

      statewise sessions show ankle-sensor --state
    """
    with connection.client() as client:
        found = client.list_sessions(model=model, state=_STATES[state], limit=limit + 1)
    listed = sorted(found[:limit], key=lambda session: session.idle_s)
    if as_json:
        print_json({"sessions": [asdict(session) for session in listed]})
    else:
        table = Table("session", "owner", "model", "position", "durable", "idle", "state")
        for session in listed:
            table.add_row(*map(escape, _row(session)))
        stdout_console().print(table)
        if not listed:
            remark("no session was found")
    if len(found) > limit:
        remark(f"there are more than these {limit:,} sessions: --limit shows more of them")


def _row(session: SessionInfo) -> tuple[str, ...]:
    return (
        session.id,
        session.owner,
        f"{session.model}/{session.version}",
        f"{session.position:,}",
        f"{session.durable_position:,}",
        f"{session.idle_s:,.0f} s",
        session.state + ", damaged" * session.damaged + ", not finite" * session.nonfinite_state,
    )
