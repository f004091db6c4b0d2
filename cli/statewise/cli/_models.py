"""`statewise models`: what a server serves."""

from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from statewise.cli._connection import Connection, connects
from statewise.cli._console import JsonFlag, print_json, results
from statewise.cli._failure import expects
from statewise.client import ModelInfo, StatewiseError


@expects(StatewiseError)
@connects
def models(connection: Connection, as_json: JsonFlag = False) -> None:
    """Lists the model versions of a server.

    For example:

      statewise models

      statewise models --target 127.0.0.1:50051 --json
    """
    with connection.client() as client:
        found = client.models()
    if as_json:
        print_json({"models": [asdict(model) for model in found]})
        return
    table = Table("model", "version", "status", "calls", "takes", "gives", "state bytes", "class")
    for model in found:
        table.add_row(*map(escape, _row(model)))
    results().print(table)


def _row(model: ModelInfo) -> tuple[str, ...]:
    return (
        model.name,
        f"{model.version}{' (default)' if model.is_default else ''}",
        f"{model.status}: {model.failure}" if model.failure else model.status,
        ", ".join(model.call_shapes),
        ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in model.inputs),
        ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in model.outputs),
        f"{model.state_bytes:,}" if model.streamable else "no sessions",
        model.exactness,
    )
