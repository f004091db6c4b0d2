"""`statewise inspect`: what a package says of itself."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from statewise.cli._terminal import JsonFlag, expects, print_json, results
from statewise.export import ExportError, Package, read_package
from statewise.wire import ModelSpec, StatePair, TensorSpec, Vocabulary


@expects(ExportError, OSError)
def inspect(
    package: Annotated[
        Path, typer.Argument(metavar="PACKAGE", help="REPOSITORY/NAME/VERSION, or a lone .onnx file.")
    ],
    as_json: JsonFlag = False,
) -> None:
    """Shows what a package takes, gives and keeps, and where it comes from.

    For example:

      statewise inspect repository/vowels/1

      statewise inspect model.onnx --json
    """
    found = read_package(package)
    if as_json:
        print_json({"package": str(found.path), **json.loads(found.spec.to_json())})
        return
    table = Table(show_header=False)
    for key, value in _rows(found):
        table.add_row(key, escape(value))
    results().print(table)


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
        read = f"; {_vocabulary(spec.encode.vocabulary)}" if spec.encode.vocabulary is not None else ""
        rows += [(f"encoder input {tensor.name}", _tensor(tensor) + read) for tensor in spec.encode.inputs]
    if spec.generate is not None:
        drawn = "drawn from the output" if spec.generate.sampled else "the output itself"
        rows.append(("generates", f"{_tensor(spec.generate.emitted)}: {drawn}"))
    return rows


def _vocabulary(vocabulary: Vocabulary) -> str:
    """Such as `30 tokens, upper case, ends with <end>, begins with one of <female> <male>`."""
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
