"""Implements `statewise generate`: prints one sequence while the server generates it."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from statewise.cli._connection import Connection, ModelOption, VersionOption, with_connection
from statewise.cli._terminal import JsonFlag, print_json, read_json_array, short_lists, to_json
from statewise.client import ModelInfo
from statewise.wire import Vocabulary

_DEFAULT_STEPS = 100

PromptOption = Annotated[
    str | None,
    typer.Option(help="Consumed first: a text, or for a model of numbers a JSON array of time steps."),
]
ConditionOption = Annotated[
    str | None,
    typer.Option(help="Name of a condition. For an encoder-decoder its input: a text or a JSON array."),
]
StepsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Most values to generate. Default: the model's own limit, or 100."),
]
SeedOption = Annotated[int, typer.Option(min=0, help="The same seed gives the same values.")]
TemperatureOption = Annotated[
    float, typer.Option(min=0, help="Temperature of the softmax; 0 always picks the likeliest value.")
]
TopKOption = Annotated[
    int | None,
    typer.Option("--top-k", min=1, help="Sample only from the K likeliest values. Default: from all."),
]


@with_connection
def generate(
    connection: Connection,
    model: ModelOption,
    version: VersionOption = None,
    prompt: PromptOption = None,
    condition: ConditionOption = None,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    temperature: TemperatureOption = 1.0,
    top_k: TopKOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Generates one sequence and prints each value as it arrives: as text, or as a JSON array on a line.

    For example:

      statewise generate --model names --prompt MA --steps 12 --temperature 0.8 --seed 7

      statewise generate --model g2p --condition hello

      statewise generate --model sunspots --prompt "[[58.0], [62.6], [70.0]]" --steps 24
    """
    with connection.client() as client:
        info = client.model(model, version=version)
        limited_by_model = info.encoder_inputs and steps is None
        values = client.generate(
            info.name,
            version=info.version,
            prompt=_read(prompt, info.vocabulary, "--prompt"),
            condition=_read(condition, info.predicted.vocabulary, "--condition"),
            steps=None if limited_by_model else steps or _DEFAULT_STEPS,
            seed=seed,
            temperature=temperature,
            top_k=top_k,
        )
        if as_json:
            print_json({"model": info.name, "version": info.version, "seed": seed, **_collect(info, values)})
        else:
            _print_each(info, values)


def _print_each(info: ModelInfo, values: Iterable[Any]) -> None:
    if info.vocabulary is None:
        for value in values:
            print(to_json(short_lists(value))[0], flush=True)
        return
    for text in values:
        print(text, end="", flush=True)
    print()


def _read(given: str | None, vocabulary: Vocabulary | None, option: str) -> Any:
    """Returns a text for a model with a vocabulary, else the JSON array in the option."""
    if given is None or vocabulary is not None:
        return given
    try:
        return read_json_array(given)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _collect(info: ModelInfo, values: Iterable[Any]) -> dict[str, Any]:
    if info.vocabulary is not None:
        return {"text": "".join(values)}
    return {"values": [short_lists(value) for value in values]}
