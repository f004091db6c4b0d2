"""Implements `statewise checkpoints`: lists the states that a session keeps under names."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from statewise.cli._connection import Connection, OwnerOption, SessionArgument, with_connection
from statewise.cli._terminal import JsonFlag, print_json, remark, stdout_console
from statewise.client import CheckpointInfo


@with_connection
def checkpoints(
    connection: Connection, session: SessionArgument, owner: OwnerOption = None, as_json: JsonFlag = False
) -> None:
    """Lists the checkpoints of a session, in the order in which they were made.

    A checkpoint is a state of the session that a program keeps under a name. Listing them neither wakes the
    session nor counts as use.

    For example:

      statewise checkpoints ankle-sensor

      statewise checkpoints ankle-sensor --json | jq '.checkpoints[].name'
    """
    with connection.client() as client:
        found = client.session_info(session, owner=owner)
    if as_json:
        print_json({"session": found.id, "checkpoints": checkpoint_rows(found.checkpoints)})
        return
    stdout_console().print(checkpoint_table(found.checkpoints))
    if not found.checkpoints:
        remark(f"session {found.id!r} has no checkpoints")


def checkpoint_rows(checkpoints: Sequence[CheckpointInfo]) -> list[dict[str, Any]]:
    """Returns the checkpoints as objects of JSON."""
    return [{**asdict(each), "made_at": each.made_at.isoformat()} for each in checkpoints]


def checkpoint_table(checkpoints: Sequence[CheckpointInfo]) -> Table:
    """Returns the checkpoints as a table."""
    table = Table("checkpoint", "position", "origin", "made at", "bytes")
    for each in checkpoints:
        made_at = f"{each.made_at:%Y-%m-%d %H:%M:%S} UTC"
        row = (each.name, f"{each.position:,}", each.origin, made_at, f"{each.size_bytes:,}")
        table.add_row(*map(escape, row))
    return table
