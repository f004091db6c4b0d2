"""Implements `statewise stream`: steps a session with lines from stdin.

A line that cannot be stepped ends the command. If the command skipped the line, the session would be at
another position than the writer of the lines assumes.
"""

import sys
from enum import StrEnum
from typing import Annotated, Any, Literal

import typer

from statewise.cli._connection import (
    Connection,
    ModelOption,
    VersionOption,
    in_words_of_command,
    with_connection,
)
from statewise.cli._terminal import fail, read_json_array, remark, short_lists, to_json
from statewise.client import Session, StatewiseError


class Durability(StrEnum):
    """When an output is printed."""

    INTERVAL = "interval"
    REPLY = "reply"


_DURABILITIES: dict[Durability | None, Literal["interval", "reply"] | None] = {
    None: None,
    Durability.INTERVAL: "interval",
    Durability.REPLY: "reply",
}


@with_connection
def stream(
    connection: Connection,
    model: ModelOption,
    version: VersionOption = None,
    session: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Name of the session. A named session stays open and continues next time."
        ),
    ] = None,
    durability: Annotated[
        Durability | None,
        typer.Option(
            help="When outputs are printed: at once, or when the server's store has what they tell. "
            "Unset: as the server or the session has it."
        ),
    ] = None,
) -> None:
    """Steps a session: reads one time step a line from stdin, and prints its output before the next.

    Each line in and out is a JSON array; a number that is not finite is printed as null. A line that
    cannot be stepped ends the command with exit code 1 and leaves the session unchanged.

    For example:

      statewise stream --model gait < samples.jsonl

      sensor | statewise stream --model gait --session ankle-sensor | consumer
    """
    with connection.client() as client:
        # Fails immediately on a wrong address. A session would try to reconnect for a long time.
        client.model(model, version=version)
        with client.session(
            model, id=session, version=version, durability=_DURABILITIES[durability]
        ) as opened:
            _step_lines(opened)


def _step_lines(session: Session) -> None:
    not_finite = 0
    try:
        for number, line in enumerate(sys.stdin.buffer, start=1):
            if not line.strip():
                continue
            try:
                output = session.step(read_json_array(line.decode("utf-8-sig" if number == 1 else "utf-8")))
            except UnicodeDecodeError as error:
                fail(f"line {number}: expected UTF-8 text, byte {error.start} of the line is not")
            except (ValueError, StatewiseError) as error:
                fail(f"line {number}: {in_words_of_command(error)}")
            text, count = to_json(_nested(output))
            not_finite += count
            print(text, flush=True)
    finally:
        if not_finite:
            remark(f"{not_finite:,} numbers of the outputs are not finite: they are null")


def _nested(output: Any) -> Any:
    """Converts an array to nested lists, and several outputs to an object by name."""
    if isinstance(output, dict):
        return {name: _nested(value) for name, value in output.items()}
    return short_lists(output)
