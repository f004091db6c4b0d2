"""Implements `statewise stream`: steps a session with lines from stdin.

A line that cannot be stepped ends the command. If the command skipped the line, the session would be at
another position than the writer of the lines assumes.
"""

import json
import sys
from typing import Annotated, Any

import typer

from statewise.cli._connection import Connection, ModelOption, VersionOption, with_connection
from statewise.cli._terminal import exits_on, fail
from statewise.client import Session, StatewiseError


@exits_on(StatewiseError)
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
) -> None:
    """Steps a session: reads one time step a line from stdin, and prints its output before the next.

    Each line in and out is a JSON array. A line that cannot be stepped ends the command with exit code 1 and
    leaves the session unchanged.

    For example:

      statewise stream --model gait < samples.jsonl

      sensor | statewise stream --model gait --session ankle-sensor | consumer
    """
    with connection.client() as client:
        # Fails immediately on a wrong address. A session would try to reconnect for a long time.
        client.model(model, version=version)
        with client.session(model, id=session, version=version) as opened:
            _step_lines(opened)


def _step_lines(session: Session) -> None:
    for number, line in enumerate(sys.stdin, start=1):
        if not line.strip():
            continue
        try:
            output = session.step(_read_step(line))
        except (ValueError, StatewiseError) as error:
            fail(f"line {number}: {error}")
        print(json.dumps(_to_json(output)), flush=True)


def _read_step(line: str) -> list[Any]:
    """Reads a JSON array. Raises ValueError that names the expected and the actual content of the line."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"expected a JSON array; got {_excerpt(line)} ({error})") from None
    if not isinstance(value, list):
        raise ValueError(f"expected a JSON array; got {_excerpt(line)}")
    return value


def _to_json(output: Any) -> Any:
    """Converts an array to nested lists, and several outputs to an object by name."""
    if isinstance(output, dict):
        return {name: _to_json(value) for name, value in output.items()}
    return output.tolist()


def _excerpt(line: str) -> str:
    text = line.strip()
    return repr(text if len(text) <= 60 else text[:57] + "...")
