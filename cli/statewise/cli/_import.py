"""`statewise import`: what others trained becomes a model package."""

from pathlib import Path
from typing import Annotated

import typer

from statewise.cli._console import JsonFlag, print_json
from statewise.cli._failure import expects
from statewise.export import ExportError, import_torch


@expects(ExportError, OSError)
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Weights of nn.RNN, nn.LSTM or nn.GRU as .safetensors.")
    ],
    repository: Annotated[Path, typer.Option(help="Folder of models; made where it does not exist.")],
    name: Annotated[str | None, typer.Option(help="Of the model. Default: the file's.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="Default: one more than the highest.")] = None,
    description: Annotated[
        Path | None,
        typer.Option(help="TOML that says what names and shapes do not. Default: FILE's name with .toml."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Turns what others trained into a model package and prints the package's path.

    PyTorch is not needed: save the module's state_dict() with safetensors.
    """
    package = import_torch(file, repository, name=name, version=version, description=description)
    if as_json:
        print_json({"package": str(package), "name": package.parent.name, "version": int(package.name)})
    else:
        print(package)
