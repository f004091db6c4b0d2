"""Implements `statewise score`: runs the sequences of a file through a model and writes a file of results.

Results are kept in OUTPUT.part until the run is complete. If a run is interrupted or killed, the same command
continues from that file and ends with the same bytes as an uninterrupted run.
"""

import json
import os
import time
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Annotated, Any

import typer

from statewise.cli._connection import (
    Connection,
    ModelOption,
    VersionOption,
    in_words_of_command,
    with_connection,
)
from statewise.cli._score._log import LogError, ResultLog
from statewise.cli._score._output import Format, format_of
from statewise.cli._terminal import JsonFlag, exits_on, fail, print_json, stderr_console
from statewise.client import Client, ModelInfo, Scored, StatewiseError

_SUFFIXES = (".npz", ".jsonl", ".parquet")
_RESUME_HINT = "the results so far are kept; the same command continues from there"
_RECORD_ROWS = 1024
_RECORD_BYTES = 4 * 1024 * 1024
_RECORD_S = 1.0


SourceOption = Annotated[
    str,
    typer.Option("--input", metavar="FILE", help="A .npz, .jsonl or .parquet file, or a pattern of files."),
]
OutputOption = Annotated[
    Path,
    typer.Option("--output", "--out", metavar="FILE", help="A .npz, .jsonl or .parquet file to write."),
]
LabelsFlag = Annotated[
    bool, typer.Option("--labels", help="Write the name of the best class instead of the outputs.")
]
RestartFlag = Annotated[
    bool, typer.Option("--restart", help="Discard the results of an interrupted run and start again.")
]


@dataclass(frozen=True)
class _BulkRun:
    """One run: the sequences, the model version that runs them, and where results go."""

    info: ModelInfo
    source: str
    output: Path
    labels: bool

    @property
    def identity(self) -> bytes:
        """Describes the run; results of two runs may share a log only if this is equal."""
        files = [(os.path.realpath(path), path.stat()) for path in _input_files(self.source)]
        about = {
            "model": self.info.name,
            "version": self.info.version,
            "digest": self.info.digest,
            "labels": self.labels,
            "output": self.output.suffix,
            "input": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in files],
        }
        return json.dumps(about).encode()

    def report(self, log: ResultLog, *, resumed_at: int, seconds: float) -> dict[str, Any]:
        """Summarises the run for --json."""
        return {
            "model": self.info.name,
            "version": self.info.version,
            "output": str(self.output),
            "rows": log.rows,
            "failed": log.failed,
            "resumed_at": resumed_at,
            "seconds": seconds,
            "rows_per_s": (log.rows - resumed_at) / seconds,
        }


@exits_on(StatewiseError, LogError, OSError)
@with_connection
def score(
    connection: Connection,
    model: ModelOption,
    source: SourceOption,
    output: OutputOption,
    version: VersionOption = None,
    labels: LabelsFlag = False,
    restart: RestartFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Runs every sequence of a file, in order; a sequence that fails is reported in its place.

    If the run is interrupted, start the same command again: it continues from the results in OUTPUT.part. A
    line of .jsonl is {"id": ..., "inputs": ...}; docs/client.md describes the other kinds of file.

    For example:

      statewise score --model vowels --input utterances.npz --output scores.jsonl

      statewise score --model vowels --input "day-*.jsonl" --output scores.parquet --labels
    """
    if output.suffix not in _SUFFIXES:
        raise typer.BadParameter(f"expected a name ending in {', '.join(_SUFFIXES)}", param_hint="--output")
    if output.exists() and any(path.samefile(output) for path in _input_files(source)):
        raise typer.BadParameter(f"{output} is an input and would be replaced", param_hint="--output")
    begun_s = time.monotonic()
    with connection.client() as client, ResultLog(output.with_name(output.name + ".part")) as log:
        if restart:
            log.begin(b"")
        info = client.model(model, version=version or _recorded_version(log))
        bulk_run = _BulkRun(info, source, output, labels)
        _check_identity(log, bulk_run.identity)
        resumed_at = log.rows
        if resumed_at:
            stderr_console().print(f"continuing at row {resumed_at:,}")
        file_format = format_of(output.suffix, info.predicted)
        _score_rows(client, bulk_run, log, file_format)
        _write_output(output, log, file_format)
        report = bulk_run.report(log, resumed_at=resumed_at, seconds=time.monotonic() - begun_s)
        log.remove()
    if as_json:
        print_json(report)
    else:
        stderr_console().print(
            "{rows:,} rows, {failed:,} of them failed, in {seconds:,.1f} s: {output}".format(**report)
        )


def _score_rows(client: Client, bulk_run: _BulkRun, log: ResultLog, file_format: Format) -> None:
    """Scores the sequences that the log lacks, and appends a record at least every second."""
    results = client.score(
        bulk_run.info.name,
        bulk_run.source,
        start=log.rows,
        version=bulk_run.info.version,
        labels=bulk_run.labels,
        progress=True,
    )
    pending: list[Scored] = []
    pending_bytes = 0
    due_s = time.monotonic() + _RECORD_S
    try:
        for scored in results:
            pending.append(scored)
            pending_bytes += _size_bytes(scored)
            full = len(pending) >= _RECORD_ROWS or pending_bytes >= _RECORD_BYTES
            if full or time.monotonic() >= due_s:
                _append(log, file_format, pending)
                pending, pending_bytes = [], 0
                due_s = time.monotonic() + _RECORD_S
    except StatewiseError as error:
        fail(f"{in_words_of_command(error)}; {_RESUME_HINT}")
    except KeyboardInterrupt:
        stderr_console().print(_RESUME_HINT)
        raise
    finally:
        _append(log, file_format, pending)


def _append(log: ResultLog, file_format: Format, results: list[Scored]) -> None:
    if results:
        failed = sum(scored.error is not None for scored in results)
        log.append(file_format.pack(results), rows=len(results), failed=failed)


def _write_output(output: Path, log: ResultLog, file_format: Format) -> None:
    """Writes the output beside its place and renames it, so that it never exists in part."""
    temporary = output.with_name(output.name + ".new")
    file_format.write(temporary, log.payloads)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(output)


def _input_files(source: str) -> list[Path]:
    """Lists the files that a path or pattern names. If there are none, the client reports this."""
    paths = [source] if Path(source).is_file() else sorted(glob(source, recursive=True))
    return [Path(path) for path in paths]


def _recorded_version(log: ResultLog) -> int | None:
    """Returns the version that an interrupted run used, which may no longer be the default one."""
    return int(json.loads(log.identity)["version"]) if log.identity else None


def _check_identity(log: ResultLog, identity: bytes) -> None:
    """Writes the identity into a new log. Raises LogError if the log belongs to another run."""
    if not log.identity:
        log.begin(identity)
    elif log.identity != identity:
        recorded, current = json.loads(log.identity), json.loads(identity)
        differing = ", ".join(key for key in current if recorded.get(key) != current[key])
        raise LogError(f"{log.path} belongs to a run with another {differing}; --restart discards it")


def _size_bytes(scored: Scored) -> int:
    values = scored.outputs.values() if isinstance(scored.outputs, dict) else [scored.outputs]
    return sum(getattr(value, "nbytes", 64) for value in values)
