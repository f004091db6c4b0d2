"""`statewise generate`: one sequence, printed as it comes."""

import json
from typing import Annotated, Any

import typer

from statewise.cli._connection import Connection, ModelOption, VersionOption, connects
from statewise.cli._terminal import JsonFlag, expects, print_json
from statewise.client import ModelInfo, StatewiseError
from statewise.wire import Vocabulary


@expects(StatewiseError)
@connects
def generate(
    connection: Connection,
    model: ModelOption,
    version: VersionOption = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="What comes first: a text, or for a model of numbers a JSON array of time steps."),
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option(
            help="The name of a condition, or of an encoder-decoder what is encoded: a text, or a JSON array."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Values at most. Default: the model's own limit, or 100.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same values.")] = 0,
    temperature: Annotated[
        float, typer.Option(min=0, help="Of the softmax; 0: always the likeliest value.")
    ] = 1.0,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="Draw from the K likeliest only. Default: all.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Generates one sequence and prints it as it comes: a text, or a JSON array a line for each value.

    For example:

      statewise generate --model names --prompt MA --steps 12 --temperature 0.8 --seed 7

      statewise generate --model g2p --condition hello

      statewise generate --model sunspots --prompt "[[58.0], [62.6], [70.0]]" --steps 24
    """
    with connection.client() as client:
        info = client.model(model, version=version)
        limited = info.encoder_inputs and steps is None
        values = client.generate(
            info.name,
            version=info.version,
            prompt=_read(prompt, info.vocabulary, "--prompt"),
            condition=_read(condition, info.predicted.vocabulary, "--condition"),
            steps=None if limited else steps or 100,
            seed=seed,
            temperature=temperature,
            top_k=top_k,
        )
        if as_json:
            print_json({"model": info.name, "version": info.version, "seed": seed, **_whole(info, values)})
            return
        if info.vocabulary is None:
            for value in values:
                print(json.dumps(value.tolist()), flush=True)
            return
        for text in values:
            print(text, end="", flush=True)
        print()


def _read(given: str | None, vocabulary: Vocabulary | None, option: str) -> Any:
    """A text where the model has a vocabulary for it, else the JSON array it has to be."""
    if given is None or vocabulary is not None:
        return given
    try:
        value = json.loads(given)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, list):
        raise typer.BadParameter(f"expected a JSON array; got {given!r}", param_hint=option)
    return value


def _whole(info: ModelInfo, values: Any) -> dict[str, Any]:
    if info.vocabulary is not None:
        return {"text": "".join(values)}
    return {"values": [value.tolist() for value in values]}
