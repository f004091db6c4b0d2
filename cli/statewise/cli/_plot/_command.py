"""Implements `statewise plot`: draws the gates, gradients and training curves of a network.

`statewise.models.effects` and the checkpoint give the numbers; `_pictures` draws them.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from statewise import models
from statewise.cli._plot._pictures import draw_curves, draw_gates, draw_gradients, save
from statewise.cli._plot._sequence import load_forward_network, read_sequence
from statewise.cli._terminal import Command, Group, JsonFlag, exits_on, fail, print_json
from statewise.models import effects

_FLOWS: tuple[tuple[Any, str, float], ...] = (
    ("rnn", "tanh", 0.8),
    ("rnn", "tanh", 1.0),
    ("rnn", "relu", 2.5),
    ("lstm", "tanh", 1.0),
    ("gru", "tanh", 1.0),
)
"""Cell, activation and gain of the untrained cells that `gradients` compares."""

app = typer.Typer(cls=Group, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

CheckpointArgument = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="Checkpoint folder that `statewise train` wrote.", show_default=False),
]
SequenceOption = Annotated[
    int, typer.Option(min=0, help="Index of the sequence to read, in the recipe's test data.")
]
TextOption = Annotated[str | None, typer.Option(help="For a model of text: read this text instead.")]
InputOption = Annotated[
    Path | None,
    typer.Option(
        "--input",
        metavar="FILE",
        help="Read this file instead: one time step a line, numbers separated by commas.",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "--out",
        metavar="FILE",
        help="A .png, .svg or .pdf file to write. Default: NAME.png, with the name of the subcommand.",
    ),
]


@app.callback()
def _plot() -> None:
    """Draws the gates, gradients and training curves of a network.

    For example:

      statewise plot gates runs/vowels

      statewise plot gradients

      statewise plot curves runs/vowels runs/gait
    """


@app.command(cls=Command)
@exits_on(models.ModelsError, OSError)
def gates(
    checkpoint: CheckpointArgument,
    sequence: SequenceOption = 0,
    text: TextOption = None,
    file: InputOption = None,
    layer: Annotated[int, typer.Option(min=0, help="Layer of a stacked network.")] = 0,
    output: OutputOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Draws every gate and state of a network while it reads a sequence: one column a step, one row a unit.

    For example:

      statewise plot gates runs/vowels --sequence 3

      statewise plot gates runs/names --text MARIA --output maria.svg
    """
    trained = load_forward_network(checkpoint)
    if layer >= trained.network.spec.layers:
        raise typer.BadParameter(
            f"expected a layer below {trained.network.spec.layers}", param_hint="--layer"
        )
    x, ticks = read_sequence(trained, sequence, text, file)
    values = effects.gate_values(trained.network, x)
    prefix = f"layer{layer}."
    drawn = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    title = f"{trained.recipe}: gates and states of layer {layer}"
    _save(draw_gates(drawn, ticks, title), output, "gates", as_json)


@app.command(cls=Command)
@exits_on(models.ModelsError, OSError)
def gradients(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="Checkpoint folder that `statewise train` wrote. Default: untrained cells."
        ),
    ] = None,
    sequence: SequenceOption = 0,
    text: TextOption = None,
    file: InputOption = None,
    steps: Annotated[int, typer.Option(min=2, help="Time steps of the untrained cells.")] = 100,
    output: OutputOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Draws how far back a gradient reaches: its norm with respect to the state at every step.

    Without DIR it compares untrained cells: RNNs whose gradient vanishes or explodes, an LSTM, a GRU.

    For example:

      statewise plot gradients

      statewise plot gradients runs/vowels --sequence 3
    """
    if checkpoint is None:
        title = f"how far back gradients reach in untrained cells, {steps} steps"
        lines = {
            f"{cell}, {activation}, gain {gain}": effects.gradient_flow(
                cell, activation=activation, gain=gain, steps=steps
            ).norms
            for cell, activation, gain in _FLOWS
        }
    else:
        trained = load_forward_network(checkpoint)
        title = f"{trained.recipe}: how far back gradients reach"
        network = trained.network
        x, _ = read_sequence(trained, sequence, text, file)
        # A unit vector: equal weight on each hidden unit, none on the rest of the state.
        direction = np.zeros((1, network.spec.memory_size), network.dtype)
        direction[0, : network.spec.hidden_size] = 1 / np.sqrt(network.spec.hidden_size)
        lines = {_labels([checkpoint])[0]: effects.gradient_norms(network, x[:, None], direction)}
    _save(draw_gradients(lines, title), output, "gradients", as_json)


@app.command(cls=Command)
@exits_on(models.ModelsError, OSError)
def curves(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(metavar="DIR…", help="One or more checkpoint folders that `statewise train` wrote."),
    ],
    output: OutputOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Draws the loss and the validation metrics of training, epoch by epoch.

    For example:

      statewise plot curves runs/vowels

      statewise plot curves runs/seed-1 runs/seed-2 --output seeds.png
    """
    measured: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for folder, label in zip(checkpoints, _labels(checkpoints), strict=True):
        for line in _metrics(folder):
            for name, value in line.items():
                if name not in ("epoch", "step"):
                    epochs, values = measured.setdefault(name, {}).setdefault(label, ([], []))
                    epochs.append(line["epoch"])
                    values.append(value)
    _save(draw_curves(measured), output, "curves", as_json)


def _metrics(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    # While training runs, or after the disk was full, the last line may be incomplete.
    complete = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    lines = []
    for number, line in enumerate(complete, 1):
        try:
            lines.append(dict(json.loads(line)))
        except ValueError as error:
            fail(f"{path}: line {number}: expected the metrics of an epoch: {error}")
    if not lines:
        fail(f"{path}: no epoch has ended yet")
    return lines


def _labels(folders: list[Path]) -> list[str]:
    """Returns a label for each run: the folder's name, or its path if names are equal."""
    names = [folder.resolve().name for folder in folders]
    return [
        name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)
    ]


def _save(figure: Any, output: Path | None, kind: str, as_json: bool) -> None:
    path = output or Path(f"{kind}.png")
    save(figure, path)
    if as_json:
        print_json({"picture": str(path), "kind": kind})
    else:
        print(path)
