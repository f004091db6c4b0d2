"""`statewise import`: what others trained becomes a model package."""

from pathlib import Path
from typing import Annotated

import typer

from statewise.cli._terminal import JsonFlag, expects, print_json, remarks
from statewise.export import ExportError, import_onnx, import_torch


@expects(ExportError, OSError)
def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="An .onnx file, or PyTorch's recurrent weights as .safetensors."),
    ],
    repository: Annotated[Path, typer.Option(help="Folder of models; made where it does not exist.")],
    name: Annotated[str | None, typer.Option(help="Of the model. Default: the file's.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="Default: one more than the highest.")] = None,
    description: Annotated[
        Path | None,
        typer.Option(
            help="For .safetensors: TOML for what names and shapes do not say. Default: FILE.toml beside it."
        ),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="INPUT=OUTPUT", help="For .onnx: a state, where the graph does not say which."),
    ] = None,
    constant: Annotated[
        list[str] | None,
        typer.Option(metavar="INPUT=NUMBER", help="For .onnx: an input that is always the same number."),
    ] = None,
    expose_state: Annotated[
        bool,
        typer.Option(
            "--expose-state", help="For .onnx: give recurrent operators state inputs and outputs they lack."
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Turns what others trained into a model package and prints the package's path.

    Of an .onnx file it says on stderr what it takes for state, batch and time, and why. PyTorch itself is not
    needed: save the module's state_dict() with safetensors.

    For example:

      statewise import lstm.safetensors --repository repository --name speech

      statewise import model.onnx --repository repository --state h_in=h_out
    """
    for_onnx = {
        "state": dict(_pairs("--state", state)),
        "constants": {key: _number(value) for key, value in _pairs("--constant", constant)},
        "expose_state": expose_state,
    }
    if file.suffix == ".onnx":
        if description is not None:
            raise typer.BadParameter("only for .safetensors", param_hint="--description")
        package = import_onnx(file, repository, name=name, version=version, **for_onnx)  # type: ignore[arg-type]
        for line in (package / "model.toml").read_text(encoding="utf-8").splitlines():
            if line.startswith("# "):
                remarks().print(line.removeprefix("# "), markup=False, soft_wrap=True)
    else:
        if any(for_onnx.values()):
            raise typer.BadParameter("only for .onnx files", param_hint="--state, --constant, --expose-state")
        package = import_torch(file, repository, name=name, version=version, description=description)
    if as_json:
        print_json({"package": str(package), "name": package.parent.name, "version": int(package.name)})
    else:
        print(package)


def _pairs(option: str, settings: list[str] | None) -> list[tuple[str, str]]:
    pairs = [setting.partition("=") for setting in settings or []]
    for key, equals, value in pairs:
        if not (key and equals and value):
            raise typer.BadParameter(f"expected NAME=VALUE; got {key + equals + value!r}", param_hint=option)
    return [(key, value) for key, _, value in pairs]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected a number; got {text!r}", param_hint="--constant") from None
