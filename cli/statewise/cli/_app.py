"""Builds the root of the command line: lists the subcommands, and imports one when it is called.

The summaries are here rather than beside the code, because listing them must not import NumPy, ONNX or gRPC.
"""

import importlib
from dataclasses import dataclass
from importlib.metadata import version
from keyword import iskeyword
from typing import Annotated, Any

import typer

from statewise.cli._terminal import Command, Group, fail


@dataclass(frozen=True)
class Subcommand:
    """One entry of the command list.

    Attributes:
        summary: Its line in `statewise --help`.
        extra: The extra of the package that installs its dependencies.
    """

    summary: str
    extra: str


def subcommands() -> dict[str, Subcommand]:
    """Lists every subcommand by name.

    The module `statewise.cli._NAME` holds a function of that name, or the `app` of subcommands below it.
    """
    return {
        "train": Subcommand("Train a recipe in NumPy.", "train"),
        "import": Subcommand("Turn ONNX graphs or PyTorch weights into a model package.", "export"),
        "export": Subcommand("Turn a trained network into a model package.", "export"),
        "verify": Subcommand("Check a package against NumPy and against itself.", "export"),
        "inspect": Subcommand("Show the metadata of a package.", "export"),
        "serve": Subcommand("Serve a repository of packages over gRPC.", "serve"),
        "token": Subcommand("Create a token for a caller of a server.", "serve"),
        "models": Subcommand("List the models of a server.", "cli"),
        "sessions": Subcommand("List the open sessions of a server, or show one.", "cli"),
        "checkpoints": Subcommand("List the checkpoints of a session: states kept under names.", "cli"),
        "states": Subcommand("Write the states of sessions to a file.", "cli"),
        "top": Subcommand("Watch the activity of a server.", "cli"),
        "score": Subcommand("Run the sequences of a file, and write the results to a file.", "cli"),
        "stream": Subcommand("Step a session with JSON lines from stdin.", "cli"),
        "generate": Subcommand("Generate a text or a series.", "cli"),
        "plot": Subcommand("Draw gates, gradients and training curves.", "plot"),
        "demo": Subcommand("Train, export, serve and stream on real data.", "all"),
    }


class LazyGroup(Group):
    """Lists placeholders, and imports the real subcommand when one is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Returns the subcommand to run. Unknown names fail as in click, with suggestions."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, _load(str(name)), rest


def make_app() -> typer.Typer:
    """Builds the whole command line."""
    app = typer.Typer(
        cls=LazyGroup,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, entry in subcommands().items():
        app.command(name, help=entry.summary)(_placeholder)
    return app


def _print_version(shown: bool) -> None:
    if shown:
        print(version("statewise"))
        raise typer.Exit


def _root(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Serves recurrent models and keeps their memory: train, export, serve, stream."""


def _placeholder() -> None:
    raise AssertionError("LazyGroup resolves every call to the real subcommand")


def _load(name: str) -> Any:
    try:
        module = importlib.import_module(f"statewise.cli._{name}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing == "statewise":
            raise
        fail(f"{name} needs {missing}; pip install 'statewise[{subcommands()[name].extra}]'")
    if hasattr(module, "app"):
        return typer.main.get_command(module.app)  # a subcommand that has subcommands
    single = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    # A keyword of Python cannot name a function: `import` is the function `import_`.
    single.command(name, cls=Command)(getattr(module, f"{name}_" if iskeyword(name) else name))
    return typer.main.get_command(single)
