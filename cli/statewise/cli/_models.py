"""Implements `statewise models`: lists the model versions of a server."""

from collections.abc import Sequence
from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from statewise.cli._connection import Connection, with_connection
from statewise.cli._terminal import JsonFlag, print_json, stdout_console
from statewise.client import ModelInfo, TensorInfo


@with_connection
def models(connection: Connection, as_json: JsonFlag = False) -> None:
    """Lists the model versions of a server, with status and shapes.

    For example:

      statewise models

      statewise models --target 127.0.0.1:50051 --json
    """
    with connection.client() as client:
        versions = client.models()
    if as_json:
        print_json({"models": [asdict(model) for model in versions]})
        return
    table = Table("model", "version", "status", "calls", "takes", "gives", "state bytes", "class")
    for model in versions:
        table.add_row(*map(escape, _row(model)))
    console = stdout_console()
    console.print(table)
    for model in versions:  # a reason is too long for a column
        if model.failure:
            console.print(
                f"{model.name}/{model.version} {model.status}: {model.failure}", markup=False, soft_wrap=True
            )


def _row(model: ModelInfo) -> tuple[str, ...]:
    return (
        model.name,
        f"{model.version}{' (default)' if model.is_default else ''}",
        model.status,
        ", ".join(model.call_shapes),
        _takes(model),
        _gives(model),
        f"{model.state_bytes:,}" if model.streamable else "no sessions" if model.call_shapes else "",
        model.exactness if model.call_shapes else "",
    )


def _takes(model: ModelInfo) -> str:
    taken = _tensors(model.predicted.inputs, text=model.predicted.vocabulary is not None)
    return taken if model.least_steps <= 1 else f"{taken}, at least {model.least_steps} steps"


def _gives(model: ModelInfo) -> str:
    if model.emitted is None:
        return _tensors(model.outputs, text=False)
    emitted = _tensors([model.emitted], text=model.vocabulary is not None)
    return emitted if model.encoder_inputs else f"{_tensors(model.outputs, text=False)}; generates {emitted}"


def _tensors(tensors: Sequence[TensorInfo], *, text: bool) -> str:
    return ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in tensors) + (
        " or text" if text else ""
    )
