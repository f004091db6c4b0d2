"""Loads what a picture is drawn from: a trained network, and a sequence for it to read."""

from pathlib import Path
from typing import Any

import numpy as np
import typer

from statewise import models
from statewise.cli._terminal import fail
from statewise.models import Checkpoint
from statewise.models.datasets import Dataset, LabelledSequences, Series, Words, read_series
from statewise.models.problems import recipe_data
from statewise.models.recipes import recipe_of

_WINDOW_STEPS = 128
"""Length of the sequences that a series is cut into."""


def load_forward_network(folder: Path) -> Checkpoint:
    """Loads a checkpoint. Ends the command unless its network reads one sequence in one direction."""
    trained = models.load_checkpoint(folder)
    spec = trained.network.spec
    if not spec.streamable or trained.network.spec.call_shape == "encoder_decoder":
        fail(f"{folder}: expected a network that reads forward only; this one is {_kind(spec)}")
    return trained


def _kind(spec: models.NetworkSpec) -> str:
    return "bidirectional" if spec.bidirectional else spec.call_shape.replace("_", "-")


def read_sequence(
    trained: Checkpoint, index: int, text: str | None, file: Path | None
) -> tuple[Any, list[str] | None]:
    """Reads one sequence: normalised [T, I] without labels, or tokens [T] with the symbol of each step."""
    if text is not None:
        return _tokens(trained, text)
    raw = _read_numbers(file, trained) if file else _from_data(trained, index)
    if isinstance(raw, str):
        return _tokens(trained, raw)
    return trained.normalisation.inputs(raw), None


def _from_data(trained: Checkpoint, index: int) -> Any:
    data = _data(trained)
    sequences: Any
    match data:
        case LabelledSequences():
            sequences = data.test or data.train
        case Series():
            tested = data.values[data.split if data.split < len(data.values) else 0 :]
            sequences = [
                tested[begin : begin + _WINDOW_STEPS] for begin in range(0, len(tested), _WINDOW_STEPS)
            ]
        case Words():
            sequences = data.words
        case _:
            fail(f"expected --text: the data {data.name!r} is pairs of sequences")
    if index >= len(sequences):
        raise typer.BadParameter(f"expected a number below {len(sequences)}", param_hint="--sequence")
    return sequences[index]


def _data(trained: Checkpoint) -> Dataset:
    """Loads the data that the network was trained on. Ends the command where a file of the user's is gone."""
    try:
        # Checkpoints of before `recipe_file` existed lead to bundled data only.
        file = trained.progress.get("recipe_file", f"{trained.recipe}.toml")
        return recipe_data(recipe_of(trained.progress["recipe"], file))
    except models.RecipeError as error:
        fail(f"{error}; --input or --text reads something else")


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


def _read_numbers(file: Path, trained: Checkpoint) -> Any:
    """Reads lines of numbers, or else a file that the network could be trained on."""
    features = trained.network.spec.input_size
    try:
        values = np.loadtxt(file, np.float32, delimiter=",", ndmin=2, encoding="utf-8-sig")
    except ValueError:
        columns = trained.progress["recipe"]["data"]["columns"]
        values = read_series(file, columns=columns, test_fraction=0).values
    if values.shape[1] != features or not len(values):
        fail(f"{file}: expected lines of {features} numbers; got shape {list(values.shape)}")
    return values
