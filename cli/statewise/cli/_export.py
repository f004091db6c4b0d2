"""Implements `statewise export`: turns a trained network into a model package."""

import filecmp
from pathlib import Path
from typing import Annotated

import typer

from statewise.cli._terminal import JsonFlag, exits_on, print_json, remark
from statewise.export import ExportError, Weights, export_checkpoint, read_package
from statewise.models import ModelsError


@exits_on(ExportError, ModelsError, OSError)
def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="DIR", help="Checkpoint folder that `statewise train` wrote.")
    ],
    repository: Annotated[Path, typer.Option(help="Folder of models; created if it does not exist.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the model. Default: the name of the checkpoint's folder.")
    ] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="Model version. Default: one more than the highest.")
    ] = None,
    weights: Annotated[
        Weights,
        typer.Option(help="How weights are stored. Smaller types lose accuracy; the loss is printed."),
    ] = Weights.FLOAT32,
    as_json: JsonFlag = False,
) -> None:
    """Turns a trained network into a model package and prints the package's path.

    Published versions never change: an existing version is refused.

    For example:

      statewise export runs/vowels --repository repository

      statewise export runs/vowels --repository repository --name small --weights int8
    """
    name = checkpoint.resolve().name if name is None else name
    package = export_checkpoint(checkpoint, repository, name=name, version=version, weights=weights)
    same = _same_version(package)
    if same is not None:
        remark(f"{package} has the same files as {same}")
    if weights is not Weights.FLOAT32:
        notes = read_package(package).spec.notes
        remark(
            f"{weights} weights: outputs differ by up to {float(notes['weights_error']):.2%} of the largest; "
            f"{notes['weights_size']}"
        )
        if weights is Weights.INT8:
            remark("the rows of a batch share a scale, so servers will run each row alone")
    if as_json:
        print_json({"package": str(package), "name": package.parent.name, "version": int(package.name)})
    else:
        print(package)


def _same_version(package: Path) -> Path | None:
    """Returns another version of the model with the same files."""
    files = sorted(path.name for path in package.iterdir())
    for other in sorted(package.parent.iterdir()):
        if other != package and other.name.isdecimal():
            equal, _, _ = filecmp.cmpfiles(package, other, files, shallow=False)
            if equal == files == sorted(path.name for path in other.iterdir()):
                return other
    return None
