"""Implements `statewise score`: runs the sequences of files through a model and writes a file of results.

Results are kept in OUTPUT.part until the run is complete. If a run is interrupted or killed, the same command
continues from that file and ends with the same bytes as an uninterrupted run.
"""

import time
from typing import Any

import typer

from statewise.cli._connection import Connection, ModelOption, VersionOption, with_connection
from statewise.cli._score._input import open_input
from statewise.cli._score._log import LogError, ResultLog
from statewise.cli._score._options import (
    ColumnsOption,
    InputOption,
    LabelsFlag,
    MaxFailuresOption,
    OutputOption,
    OverwriteFlag,
    RestartFlag,
    SequenceOption,
)
from statewise.cli._score._run import BulkRun
from statewise.cli._terminal import NOT_FINITE, JsonFlag, exits_on, print_json, remark
from statewise.client import StatewiseError

_SUFFIXES = (".npz", ".jsonl", ".parquet")


@exits_on(StatewiseError, LogError, OSError)
@with_connection
def score(
    connection: Connection,
    model: ModelOption,
    source: InputOption,
    output: OutputOption,
    version: VersionOption = None,
    labels: LabelsFlag = False,
    sequence: SequenceOption = None,
    columns: ColumnsOption = "",
    max_failures: MaxFailuresOption = None,
    restart: RestartFlag = False,
    overwrite: OverwriteFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Runs every sequence of the files, in order; a sequence that fails is reported in its place.

    If the run is interrupted, start the same command again: it continues from the results in OUTPUT.part. A
    line of .jsonl is {"id": ..., "inputs": ...}; docs/bulk.md describes the other kinds of file. The exit
    code is 1 if every sequence failed.

    For example:

      statewise score --model vowels --input utterances.npz --output scores.jsonl

      statewise score --model vowels --input monday.csv --input tuesday.csv --output scores.jsonl

      statewise score --model vowels --input "day-*.jsonl.gz" --output scores.parquet --labels

      zcat utterances.jsonl.gz | statewise score --model vowels --input - --output scores.jsonl
    """
    if output.suffix not in _SUFFIXES:
        raise typer.BadParameter(f"expected a name ending in {', '.join(_SUFFIXES)}", param_hint="--output")
    opened = open_input(source, sequence=sequence, columns=columns)
    if output.exists() and any(path.samefile(output) for path in opened.paths):
        raise typer.BadParameter(f"{output} is an input and would be replaced", param_hint="--output")
    begun_s = time.monotonic()
    with connection.client() as client, ResultLog(output.with_name(output.name + ".part")) as log:
        if output.exists() and not overwrite and not log.complete:
            raise LogError(f"{output} exists; --overwrite replaces it")
        if restart:
            log.begin(b"")
        info = client.model(model, version=version or BulkRun.recorded_version(log))
        run = BulkRun(client, info, opened, output, log, labels=labels, max_failures=max_failures)
        run.begin()
        resumed_at = log.rows
        if resumed_at:
            remark(f"continuing at row {resumed_at:,}")
        run.score()
        run.write()
        report = run.report(resumed_at=resumed_at, seconds=time.monotonic() - begun_s)
        log.remove()
    if as_json:
        print_json(report)
    else:
        remark(_summary(report))
    run.fail_if_all_failed()


def _summary(report: dict[str, Any]) -> str:
    text = "{rows:,} rows, {failed:,} of them failed, in {seconds:,.1f} s: {output}".format(**report)
    if NOT_FINITE in report:
        text += f"; {report[NOT_FINITE]:,} numbers of the outputs are not finite"
    return text
