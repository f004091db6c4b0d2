"""Implements `statewise verify`: checks a package against its metadata and against NumPy."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from statewise.cli._terminal import JsonFlag, exits_on, print_json, stdout_console
from statewise.export import ExportError, VerifyReport, verify_package
from statewise.models import ModelsError


@exits_on(ExportError, ModelsError, OSError)
def verify(
    package: Annotated[
        Path, typer.Argument(metavar="PACKAGE", help="REPOSITORY/NAME/VERSION, or a single .onnx file.")
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Compare with this trained network instead of the one rebuilt from the graph."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Checks a package and prints the outcome of every check; exits with 1 if a check fails.

    For example:

      statewise verify repository/vowels/1

      statewise verify repository/vowels/1 --checkpoint runs/vowels --json
    """
    report = verify_package(package, checkpoint=checkpoint)
    if as_json:
        print_json(report.to_dict())
    else:
        _print_table(report)
    if not report.passed:
        raise typer.Exit(1)


def _print_table(report: VerifyReport) -> None:
    table = Table("check", "outcome", "measured", "bound", "detail")
    for check in report.checks:
        outcome = "[green]passed[/]" if check.passed else "[red]failed[/]"
        numbers = ("" if value is None else f"{value:.1e}" for value in (check.measured, check.bound))
        table.add_row(check.name, outcome, *numbers, escape(check.detail))
    console = stdout_console()
    console.print(table)
    console.print(f"class: {report.exactness or 'unknown; the graph was not run'}")
