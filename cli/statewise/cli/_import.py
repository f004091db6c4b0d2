"""Implements `statewise import`: turns a foreign ONNX graph or PyTorch weights into a model package."""

from pathlib import Path
from typing import Annotated, Any

import typer

from statewise.cli._terminal import JsonFlag, exits_on, print_json, stderr_console
from statewise.export import ExportError, import_onnx, import_torch

FileArgument = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="An .onnx file, or PyTorch's recurrent weights as .safetensors."),
]
DescriptionOption = Annotated[
    Path | None,
    typer.Option(
        help="For .safetensors: TOML file with what names and shapes cannot show. Default: FILE.toml."
    ),
]
StateOption = Annotated[
    list[str] | None,
    typer.Option(metavar="INPUT=OUTPUT", help="For .onnx: a state that the graph does not reveal."),
]
ConstantOption = Annotated[
    list[str] | None,
    typer.Option(metavar="INPUT=NUMBER", help="For .onnx: an input that is always the same number."),
]
ExposeStateFlag = Annotated[
    bool,
    typer.Option(
        "--expose-state",
        help="For .onnx: give recurrent operators the state inputs and outputs that they lack.",
    ),
]


@exits_on(ExportError, OSError)
def import_(
    file: FileArgument,
    repository: Annotated[Path, typer.Option(help="Folder of models; created if it does not exist.")],
    name: Annotated[str | None, typer.Option(help="Name of the model. Default: the file's name.")] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="Model version. Default: one more than the highest.")
    ] = None,
    description: DescriptionOption = None,
    state: StateOption = None,
    constant: ConstantOption = None,
    expose_state: ExposeStateFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Turns a foreign ONNX graph or PyTorch weights into a model package and prints the package's path.

    For an .onnx file it prints on stderr which tensors and axes it takes for state, batch and time, and why.
    PyTorch is not needed here: save the module's state_dict() with safetensors.

    For example:

      statewise import lstm.safetensors --repository repository --name speech

      statewise import model.onnx --repository repository --state h_in=h_out
    """
    onnx_options = {
        "state": dict(_pairs("--state", state)),
        "constants": {key: _number(value) for key, value in _pairs("--constant", constant)},
        "expose_state": expose_state,
    }
    if file.suffix == ".onnx":
        if description is not None:
            raise typer.BadParameter("only for .safetensors", param_hint="--description")
        package = _import_graph(file, repository, name=name, version=version, **onnx_options)
    else:
        if any(onnx_options.values()):
            raise typer.BadParameter("only for .onnx files", param_hint="--state, --constant, --expose-state")
        package = import_torch(file, repository, name=name, version=version, description=description)
    if as_json:
        print_json({"package": str(package), "name": package.parent.name, "version": int(package.name)})
    else:
        print(package)


def _import_graph(file: Path, repository: Path, **options: Any) -> Path:
    """Imports a graph, and prints the comments of its model.toml, which give the reasons."""
    package = import_onnx(file, repository, **options)
    for line in (package / "model.toml").read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            stderr_console().print(line.removeprefix("# "), markup=False, soft_wrap=True)
    return package


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
