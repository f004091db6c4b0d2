"""Implements `statewise states`: writes the states of sessions of one model to a file, a row a session."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from statewise.cli._connection import (
    Connection,
    VersionOption,
    complete_models,
    complete_sessions,
    with_connection,
)
from statewise.cli._states._files import WRITERS, count_not_finite, write_whole
from statewise.cli._terminal import NOT_FINITE, JsonFlag, exits_on, fail, print_json, remark
from statewise.client import States

_STANDARD_INPUT = "-"
_SHOWN_IDS = 3


@exits_on(OSError)
@with_connection
def states(
    connection: Connection,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", autocompletion=complete_models, help="Model of the sessions.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "--out", metavar="FILE", help="A .parquet, .csv, .npz or .jsonl file to write."
        ),
    ],
    ids: Annotated[
        list[str] | None,
        typer.Option(
            "--ids",
            metavar="ID",
            autocompletion=complete_sessions,
            help="Only this session; repeat it for more. - reads names from stdin, one a line. "
            "Default: all of the caller's own.",
        ),
    ] = None,
    version: VersionOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the output file if it exists.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Writes the states of your sessions of a model, one row a session, with their positions.

    A .parquet or .csv has the columns id and position, and a column for each number of the state, such as
    layer0.h[3]. A .npz has the arrays ids [N], positions [N], states [N, S], columns [S]. A line of .jsonl
    has the state by part: {"id": ..., "position": ..., "state": {"layer0.h": ...}}. Reading neither wakes a
    session nor counts as use.

    For example:

      statewise states gait --output states.parquet

      statewise states gait --ids ankle-sensor --ids wrist-sensor --output two.csv
    """
    _check_output(output, overwrite)
    chosen = _chosen(ids)
    with connection.client() as client:
        found = client.states(model, chosen, version=version)
    there = {*found.ids}
    missing = [name for name in chosen or () if name not in there]
    if missing:
        more = f" and {len(missing) - _SHOWN_IDS:,} more" if len(missing) > _SHOWN_IDS else ""
        text = f"no session of {found.model}/{found.version}: {', '.join(missing[:_SHOWN_IDS])}{more}"
        if not found.ids:
            fail(text)
        remark(text)
    write_whole(output, found)
    report = _report(found, output, missing)
    if as_json:
        print_json(report)
    else:
        remark(_summary(report))


def _check_output(output: Path, overwrite: bool) -> None:
    """Fails before states are read where the file could not be written."""
    if output.suffix not in WRITERS:
        raise typer.BadParameter(f"expected a name ending in {', '.join(WRITERS)}", param_hint="--output")
    if output.exists() and not overwrite:
        fail(f"{output} exists; --overwrite replaces it")
    if not output.parent.is_dir():
        fail(f"{output}: there is no folder {output.parent}; create it, or choose another --output")


def _chosen(ids: Sequence[str] | None) -> list[str] | None:
    """Returns the ids that are asked for, each once; None: all."""
    if not ids:
        return None
    chosen: list[str] = []
    for name in ids:
        chosen += _typed_names() if name == _STANDARD_INPUT else [name]
    return list(dict.fromkeys(chosen))


def _typed_names() -> list[str]:
    try:
        names = list(filter(None, sys.stdin.buffer.read().decode("utf-8-sig").splitlines()))
    except UnicodeDecodeError as error:
        raise typer.BadParameter(
            f"expected UTF-8 text on stdin; got another encoding at byte {error.start + 1}",
            param_hint="--ids",
        ) from None
    if not names:
        raise typer.BadParameter("expected names on stdin, one a line; got none", param_hint="--ids")
    return names


def _report(found: States, output: Path, missing: Sequence[str]) -> dict[str, Any]:
    report = {
        "model": found.model,
        "version": found.version,
        "output": str(output),
        "rows": len(found),
        "columns": len(found.columns),
        "missing": missing,
    }
    not_finite = count_not_finite(found)
    return {**report, NOT_FINITE: not_finite} if not_finite else report


def _summary(report: dict[str, Any]) -> str:
    sessions = "1 session" if report["rows"] == 1 else f"{report['rows']:,} sessions"
    text = f"states of {sessions}, {report['columns']:,} numbers each: {report['output']}"
    if NOT_FINITE in report:
        text += f"; {report[NOT_FINITE]:,} numbers are not finite"
    return text
