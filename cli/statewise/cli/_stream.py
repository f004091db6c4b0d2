"""`statewise stream`: a session stepped by lines of stdin.

A line that cannot be stepped ends the command: skipping it would leave the session at another place than the
writer believes.
"""

import json
import sys
from typing import Annotated, Any

import typer

from statewise.cli._connection import Connection, ModelOption, VersionOption, connects
from statewise.cli._terminal import expects, fail
from statewise.client import Session, StatewiseError


@expects(StatewiseError)
@connects
def stream(
    connection: Connection,
    model: ModelOption,
    version: VersionOption = None,
    session: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Name of the session, which then stays open and goes on next time."),
    ] = None,
) -> None:
    """Steps a session: a JSON array for one time step a line on stdin, the output as one on stdout, at once.

    The first line that cannot be stepped ends the command with 1; nothing of it is applied.

    For example:

      statewise stream --model gait < samples.jsonl

      sensor | statewise stream --model gait --session ankle-sensor | consumer
    """
    with connection.client() as client:
        # A session would try for long to reach a server that has been away; a wrong address is told at once.
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
        print(json.dumps(_plain(output)), flush=True)


def _read_step(line: str) -> list[Any]:
    """Raises ValueError, naming what was expected and what the line holds."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"expected a JSON array; got {_shown(line)} ({error})") from None
    if not isinstance(value, list):
        raise ValueError(f"expected a JSON array; got {_shown(line)}")
    return value


def _plain(output: Any) -> Any:
    """An array as nested lists; several outputs as an object by name."""
    if isinstance(output, dict):
        return {name: _plain(value) for name, value in output.items()}
    return output.tolist()


def _shown(line: str) -> str:
    text = line.strip()
    return repr(text if len(text) <= 60 else text[:57] + "...")
