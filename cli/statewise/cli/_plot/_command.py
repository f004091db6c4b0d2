"""`statewise plot`: pictures of what a network does and how it learned.

The numbers come from `statewise.models.effects` and the checkpoint; `_pictures` draws them.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from statewise import models
from statewise.cli._plot._pictures import draw_curves, draw_gates, draw_gradients, save
from statewise.cli._terminal import JsonFlag, expects, fail, print_json
from statewise.models import Checkpoint, effects
from statewise.models.datasets import BUNDLED, LabelledSequences, Series, Words

_WINDOW_STEPS = 128
"""Of a series, which has no sequences of its own."""
_FLOWS: tuple[tuple[Any, str, float], ...] = (
    ("rnn", "tanh", 0.8),
    ("rnn", "tanh", 1.0),
    ("rnn", "relu", 2.5),
    ("lstm", "tanh", 1.0),
    ("gru", "tanh", 1.0),
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

CheckpointArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="What `statewise train` wrote.", show_default=False)
]
SequenceOption = Annotated[
    int, typer.Option(min=0, help="Which sequence of the recipe's own test data is read.")
]
TextOption = Annotated[str | None, typer.Option(help="Read this text instead, as a model of text does.")]
InputOption = Annotated[
    Path | None,
    typer.Option("--input", metavar="FILE", help="Read this instead: numbers, a line a time step, commas."),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A .png, .svg or .pdf file. Default: named after the picture, .png."),
]


@app.callback()
def _plot() -> None:
    """Draws what a network does and how it learned.

    For example:

      statewise plot gates runs/vowels

      statewise plot gradients

      statewise plot curves runs/vowels runs/gait
    """


@app.command()
@expects(models.ModelsError, OSError)
def gates(
    checkpoint: CheckpointArgument,
    sequence: SequenceOption = 0,
    text: TextOption = None,
    file: InputOption = None,
    layer: Annotated[int, typer.Option(min=0, help="Of a stacked network.")] = 0,
    output: OutputOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Draws every gate and memory of a trained network while it reads a sequence: time across, units down.

    For example:

      statewise plot gates runs/vowels --sequence 3

      statewise plot gates runs/names --text MARIA --output maria.svg
    """
    trained = _one_way(checkpoint)
    if layer >= trained.network.spec.layers:
        raise typer.BadParameter(
            f"expected a layer below {trained.network.spec.layers}", param_hint="--layer"
        )
    x, ticks = _sequence(trained, sequence, text, file)
    values = effects.gate_values(trained.network, x)
    prefix = f"layer{layer}."
    drawn = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    _show(draw_gates(drawn, ticks), output, "gates", as_json)


@app.command()
@expects(models.ModelsError, OSError)
def gradients(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="What `statewise train` wrote. Default: fresh cells of each kind."
        ),
    ] = None,
    sequence: SequenceOption = 0,
    text: TextOption = None,
    file: InputOption = None,
    steps: Annotated[int, typer.Option(min=2, help="Of the fresh cells.")] = 100,
    output: OutputOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Draws how far back a gradient reaches: its norm by the state at every time, from the last one back.

    Without DIR it compares fresh cells: a plain RNN whose gradient vanishes or explodes, an LSTM, a GRU.

    For example:

      statewise plot gradients

      statewise plot gradients runs/vowels --sequence 3
    """
    if checkpoint is None:
        lines = {
            f"{cell}, {activation}, gain {gain}": effects.gradient_flow(
                cell, activation=activation, gain=gain, steps=steps
            ).norms
            for cell, activation, gain in _FLOWS
        }
    else:
        trained = _one_way(checkpoint)
        network = trained.network
        x, _ = _sequence(trained, sequence, text, file)
        toward = np.zeros((1, network.spec.memory_size), network.dtype)
        toward[0, : network.spec.hidden_size] = 1 / np.sqrt(network.spec.hidden_size)
        lines = {checkpoint.name: effects.gradient_norms(network, x[:, None], toward)}
    _show(draw_gradients(lines), output, "gradients", as_json)


@app.command()
@expects(models.ModelsError, OSError)
def curves(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="DIR…", help="What `statewise train` wrote, one or several.")
    ],
    output: OutputOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Draws what training measured, epoch by epoch: the loss, and what was measured on validation data.

    For example:

      statewise plot curves runs/vowels

      statewise plot curves runs/seed-1 runs/seed-2 --output seeds.png
    """
    measured: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for folder in checkpoints:
        for line in _metrics(folder):
            for name, value in line.items():
                if name not in ("epoch", "step"):
                    epochs, values = measured.setdefault(name, {}).setdefault(folder.name, ([], []))
                    epochs.append(line["epoch"])
                    values.append(value)
    _show(draw_curves(measured), output, "curves", as_json)


def _metrics(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if not lines:
        fail(f"{path}: no epoch has ended yet")
    return lines


def _one_way(folder: Path) -> Checkpoint:
    trained = models.load_checkpoint(folder)
    spec = trained.network.spec
    if not spec.streamable or trained.network.spec.call_shape == "encoder_decoder":
        fail(f"{folder}: expected a one-way network; this one is {_kind(spec)}")
    return trained


def _kind(spec: models.NetworkSpec) -> str:
    return "bidirectional" if spec.bidirectional else spec.call_shape.replace("_", "-")


def _sequence(
    trained: Checkpoint, index: int, text: str | None, file: Path | None
) -> tuple[Any, list[str] | None]:
    """One sequence in the network's units, [T, I] or tokens [T], and what stands at each step, for text."""
    if text is not None:
        return _tokens(trained, text)
    raw = _read_numbers(file, trained.network.spec.input_size) if file else _from_data(trained, index)
    if isinstance(raw, str):
        return _tokens(trained, raw)
    return trained.normalisation.inputs(raw), None


def _from_data(trained: Checkpoint, index: int) -> Any:
    source = trained.progress["recipe"]["data"]["source"]
    if source not in BUNDLED:
        fail(f"expected --input or --text: the data of this recipe, {source!r}, is a file of yours")
    data = models.load_dataset(source)
    found: Any
    match data:
        case LabelledSequences():
            found = data.test or data.train
        case Series():
            tested = data.values[data.split :]
            found = [tested[begin : begin + _WINDOW_STEPS] for begin in range(0, len(tested), _WINDOW_STEPS)]
        case Words():
            found = data.words
        case _:
            fail(f"expected --text: the data {source!r} is pairs of sequences")
    if index >= len(found):
        raise typer.BadParameter(f"expected a number below {len(found)}", param_hint="--sequence")
    return found[index]


def _tokens(trained: Checkpoint, text: str) -> tuple[Any, list[str]]:
    if trained.vocabulary is None:
        raise typer.BadParameter("expected a model of text; this one reads numbers", param_hint="--text")
    tokens: list[str] = trained.vocabulary["tokens"]
    folding = trained.vocabulary.get("case")
    read = text.upper() if folding == "upper" else text.lower() if folding == "lower" else text
    begin = trained.vocabulary.get("begin")
    conditions: dict[str, int] = trained.vocabulary.get("conditions") or {}
    first = next(iter(conditions.values()), begin)
    unknown = [character for character in read if character not in tokens]
    if unknown:
        raise typer.BadParameter(f"the vocabulary has no {unknown[0]!r}", param_hint="--text")
    numbers = ([] if first is None else [first]) + [tokens.index(character) for character in read]
    return np.array(numbers, np.int32), [tokens[number] for number in numbers]


def _read_numbers(file: Path, features: int) -> Any:
    try:
        values = np.loadtxt(file, np.float32, delimiter=",", ndmin=2)
    except ValueError as error:
        fail(f"{file}: expected numbers, a line a time step, commas between: {error}")
    if values.shape[1] != features or not len(values):
        fail(f"{file}: expected lines of {features} numbers; got shape {list(values.shape)}")
    return values


def _show(figure: Any, output: Path | None, kind: str, as_json: bool) -> None:
    path = output or Path(f"{kind}.png")
    save(figure, path)
    if as_json:
        print_json({"picture": str(path), "kind": kind})
    else:
        print(path)
