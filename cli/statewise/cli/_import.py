"""Implements `statewise import`: turns a foreign ONNX graph or PyTorch weights into a model package."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from statewise.cli._terminal import JsonFlag, exits_on, print_json, remark
from statewise.export import ExportError, import_onnx, import_torch

_T = TypeVar("_T")

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
InputOption = Annotated[
    list[str] | None, typer.Option("--input", metavar="NAME", help="For .onnx: an input that is no state.")
]
OutputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--output", metavar="NAME", help="For .onnx: an output to publish. Default: all that are no state."
    ),
]
SizeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        metavar="NAME=N",
        help="For .onnx: a number for a free size that is neither batch nor time, by its name or INPUT.AXIS.",
    ),
]
AxesOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=AXES",
        help="For .onnx: the axes of an input, output or state, such as x=batch,time,3.",
    ),
]
InitialOption = Annotated[
    list[str] | None,
    typer.Option(
        "--initial",
        metavar="STATE=NUMBER|FILE",
        help="For .onnx: how a state begins, as a number or a .npy file. Default: zeros.",
    ),
]
ConstantOption = Annotated[
    list[str] | None,
    typer.Option(metavar="INPUT=NUMBER", help="For .onnx: an input that is always the same number."),
]
HopOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="INPUT=N",
        help="For .onnx: the input is a window of which N values are new in each step.",
    ),
]
ExposeStateFlag = Annotated[
    bool,
    typer.Option(
        "--expose-state",
        help="For .onnx: give recurrent operators the state inputs and outputs that they lack.",
    ),
]
StatelessFlag = Annotated[
    bool,
    typer.Option("--stateless", help="For .onnx: publish the model for Predict alone, without sessions."),
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
    input_: InputOption = None,
    output: OutputOption = None,
    size: SizeOption = None,
    axes: AxesOption = None,
    initial: InitialOption = None,
    constant: ConstantOption = None,
    hop: HopOption = None,
    expose_state: ExposeStateFlag = False,
    stateless: StatelessFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Turns a foreign ONNX graph or PyTorch weights into a model package and prints the package's path.

    For an .onnx file it prints on stderr which tensors and axes it takes for state, batch and time, and why,
    and publishes nothing that does not compute what the file computes. PyTorch is not needed here: save the
    module's state_dict() with safetensors.

    For example:

      statewise import lstm.safetensors --repository repository --name speech

      statewise import model.onnx --repository repository --state h_in=h_out
    """
    onnx_options: dict[str, Any] = {
        "state": dict(_pairs("--state", state)),
        "inputs": input_ or [],
        "outputs": output or [],
        "sizes": {key: _number("--size", value, int) for key, value in _pairs("--size", size)},
        "axes": {key: _axes(value) for key, value in _pairs("--axes", axes)},
        "initial": {key: _initial(value) for key, value in _pairs("--initial", initial)},
        "constants": {
            key: _number("--constant", value, float) for key, value in _pairs("--constant", constant)
        },
        "hops": {key: _number("--hop", value, int) for key, value in _pairs("--hop", hop)},
        "expose_state": expose_state,
        "stateless": stateless,
    }
    if file.suffix == ".onnx":
        if description is not None:
            raise typer.BadParameter("only for .safetensors", param_hint="--description")
        package = import_onnx(file, repository, name=name, version=version, **onnx_options)
    else:
        if given := [name for name, value in onnx_options.items() if value]:
            raise typer.BadParameter("only for .onnx files", param_hint=_flag(given[0]))
        package = import_torch(file, repository, name=name, version=version, description=description)
    _print_findings(package)
    if as_json:
        print_json({"package": str(package), "name": package.parent.name, "version": int(package.name)})
    else:
        print(package)


def _print_findings(package: Path) -> None:
    """Prints the comments of a package's model.toml, which give what was found, and why."""
    findings = package / "model.toml"
    for line in findings.read_text(encoding="utf-8").splitlines() if findings.exists() else ():
        if line.startswith("# "):
            remark(line.removeprefix("# "))


def _flag(option: str) -> str:
    return f"--{option.removesuffix('s') if option != 'axes' else option}".replace("_", "-")


def _pairs(option: str, settings: list[str] | None) -> list[tuple[str, str]]:
    pairs = [setting.partition("=") for setting in settings or []]
    for key, equals, value in pairs:
        if not (key and equals and value):
            raise typer.BadParameter(f"expected NAME=VALUE; got {key + equals + value!r}", param_hint=option)
    return [(key, value) for key, _, value in pairs]


def _number(option: str, text: str, kind: Callable[[str], _T]) -> _T:
    try:
        return kind(text)
    except ValueError:
        raise typer.BadParameter(f"expected a number; got {text!r}", param_hint=option) from None


def _axes(text: str) -> list[str | int]:
    """Returns the axes of "batch,time,3"."""
    words = text.split(",")
    if any(word not in ("batch", "time") and not word.isdecimal() for word in words):
        raise typer.BadParameter(f"expected batch, time and sizes; got {text!r}", param_hint="--axes")
    return [int(word) if word.isdecimal() else word for word in words]


def _initial(text: str) -> Any:
    """Returns a number, or the path of a file with one."""
    try:
        return float(text)
    except ValueError:
        return Path(text)
