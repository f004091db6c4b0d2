"""Implements `statewise inspect`: prints the metadata of a package."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from statewise.cli._terminal import JsonFlag, exits_on, print_json, stdout_console
from statewise.export import ExportError, Package, read_package
from statewise.wire import ModelSpec, StatePair, TensorSpec, Vocabulary


@exits_on(ExportError, OSError)
def inspect(
    package: Annotated[
        Path, typer.Argument(metavar="PACKAGE", help="REPOSITORY/NAME/VERSION, or a single .onnx file.")
    ],
    as_json: JsonFlag = False,
) -> None:
    """Shows the inputs, outputs and state of a package, and its origin.

    For example:

      statewise inspect repository/vowels/1

      statewise inspect model.onnx --json
    """
    read = read_package(package)
    if as_json:
        print_json({"package": str(read.path), **json.loads(read.spec.to_json())})
        return
    table = Table(show_header=False)
    for key, value in _rows(read):
        table.add_row(key, escape(value))
    stdout_console().print(table)


def _rows(package: Package) -> list[tuple[str, str]]:
    spec = package.spec
    rows = [
        ("package", f"{package.path}, {package.size_bytes:,} bytes in {', '.join(package.files)}"),
        ("call shapes", ", ".join(spec.call_shapes)),
        *((f"input {tensor.name}", _tensor(tensor)) for tensor in spec.inputs),
        *((f"output {tensor.name}", _tensor(tensor)) for tensor in spec.outputs),
        *((f"state {pair.input} -> {pair.output}", _state(pair)) for pair in spec.state),
        ("sessions", "yes" if spec.streamable else "no: predict only"),
        *_other_graphs(spec),
        ("network", "foreign" if package.network is None else _network(package)),
    ]
    if spec.labels:
        rows.append(("labels", ", ".join(spec.labels)))
    if spec.vocabulary is not None:
        rows.append(("vocabulary", _vocabulary(spec.vocabulary)))
    return rows + [(key, value) for key, value in spec.notes.items()]


def _other_graphs(spec: ModelSpec) -> list[tuple[str, str]]:
    rows = []
    if spec.encode is not None:
        words = f"; {_vocabulary(spec.encode.vocabulary)}" if spec.encode.vocabulary is not None else ""
        rows += [(f"encoder input {tensor.name}", _tensor(tensor) + words) for tensor in spec.encode.inputs]
    if spec.generate is not None:
        origin = "sampled from the output" if spec.generate.sampled else "the output itself"
        rows.append(("generates", f"{_tensor(spec.generate.emitted)}: {origin}"))
    return rows


def _vocabulary(vocabulary: Vocabulary) -> str:
    """Describes a vocabulary, as in `30 tokens, upper case, begins with <begin>, ends with <end>`."""
    words = [f"{len(vocabulary.tokens)} tokens"]
    if vocabulary.case_folding:
        words.append(f"{vocabulary.case_folding} case")
    if vocabulary.begin is not None:
        words.append(f"begins with {vocabulary.tokens[vocabulary.begin]}")
    if vocabulary.conditions:
        words.append(f"begins with one of {' '.join(vocabulary.conditions)}")
    if vocabulary.end is not None:
        words.append(f"ends with {vocabulary.tokens[vocabulary.end]}")
    return ", ".join(words)


def _tensor(tensor: TensorSpec) -> str:
    shape = " ".join(map(str, tensor.shape)) or "token"
    return f"{tensor.dtype}, {shape}, {'each time step' if tensor.per_step else 'once a sequence'}"


def _state(pair: StatePair) -> str:
    parts = ", ".join(f"{part.name} {part.offset}:{part.offset + part.size}" for part in pair.parts)
    return f"{pair.dtype}, {' '.join(map(str, pair.shape))}" + (f" ({parts})" if parts else "")


def _network(package: Package) -> str:
    network = package.network
    assert network is not None, "checked by the caller"
    direction = "bidirectional" if network.bidirectional else "forward"
    return f"{network.layers} x {network.cell}, {network.hidden_size} units, {direction}, {network.head} head"
