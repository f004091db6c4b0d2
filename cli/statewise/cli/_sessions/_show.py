"""Implements `statewise sessions show`: describes one session, with its checkpoints and its state."""

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from statewise.cli._checkpoints import checkpoint_rows, checkpoint_table
from statewise.cli._connection import Connection, OwnerOption, SessionArgument, with_connection
from statewise.cli._terminal import JsonFlag, print_json, short_lists, stdout_console
from statewise.client import SessionDetails

_SHOWN_NUMBERS = 4
"""Numbers of a part that its row of the table shows."""


@with_connection
def show(
    connection: Connection,
    session: SessionArgument,
    state: Annotated[
        bool, typer.Option("--state", help="Show its state by part, too; only its owner may see it.")
    ] = False,
    owner: OwnerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Describes a session: its position, what can be taken back, its checkpoints, its state.

    This neither wakes the session nor counts as use. The table of the state sums up each part; --json has all
    its numbers, under "arrays".

    For example:

      statewise sessions show ankle-sensor

      statewise sessions show ankle-sensor --state --json | jq '.arrays["layer0.h"]'
    """
    with connection.client() as client:
        found = client.session_info(session, owner=owner, with_state=state)
    if as_json:
        print_json(_as_dict(found))
        return
    console = stdout_console()
    table = Table(show_header=False)
    for key, value in _rows(found):
        table.add_row(key, escape(value))
    console.print(table)
    if found.checkpoints:
        console.print(checkpoint_table(found.checkpoints))
    if found.arrays is not None:
        console.print(_state_table(found.arrays))


def _as_dict(found: SessionDetails) -> dict[str, Any]:
    arrays = found.arrays
    about = {name: value for name, value in vars(found).items() if name not in ("arrays", "checkpoints")} | {
        "checkpoints": checkpoint_rows(found.checkpoints)
    }
    if arrays is None:
        return about
    return {**about, "arrays": {name: short_lists(array) for name, array in arrays.items()}}


def _rows(found: SessionDetails) -> Iterator[tuple[str, str]]:
    yield "session", found.id
    if found.owner:
        yield "owner", found.owner
    yield "model", f"{found.model}/{found.version}"
    yield "position", f"{found.position:,}"
    yield "durable position", f"{found.durable_position:,}"
    yield "epoch", f"{found.epoch:,}"
    yield "can take back", "its last request" if found.keep == 1 else f"its last {found.keep} requests"
    yield "idle", f"{found.idle_s:,.0f} s"
    yield "status", found.state + ", damaged" * found.damaged + ", not finite" * found.nonfinite_state


def _state_table(arrays: dict[str, NDArray[Any]]) -> Table:
    table = Table("part", "type", "shape", "least", "mean", "greatest", "begins with")
    for name, array in arrays.items():
        table.add_row(*map(escape, _part_row(name, array)))
    return table


def _part_row(name: str, array: NDArray[Any]) -> tuple[str, ...]:
    about = (name, array.dtype.name, " ".join(map(str, array.shape)))
    flat = array.reshape(-1)
    if not len(flat):
        return (*about, "", "", "", "")
    with np.errstate(all="ignore"):
        mean = flat.astype(np.float64).mean()
    numbers = [f"{number:.4g}" for number in flat[:_SHOWN_NUMBERS].tolist()]
    more = " …" if len(flat) > _SHOWN_NUMBERS else ""
    return (*about, f"{flat.min():.4g}", f"{mean:.4g}", f"{flat.max():.4g}", " ".join(numbers) + more)
