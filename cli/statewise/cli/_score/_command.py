"""`statewise score`: a file of sequences through a model, into a file of results.

Results are kept in OUTPUT.part until all are there. A run that was interrupted, in whatever way, goes on from
that file when it is started again, and ends with the same bytes as one that was not.
"""

import json
import os
import time
from glob import glob
from pathlib import Path
from typing import Annotated

import typer

from statewise.cli._connection import Connection, ModelOption, VersionOption, connects
from statewise.cli._score._log import LogError, ResultLog
from statewise.cli._score._output import Format, format_of
from statewise.cli._terminal import JsonFlag, expects, fail, print_json, remarks
from statewise.client import Client, ModelInfo, Scored, StatewiseError

_KINDS = (".npz", ".jsonl", ".parquet")
_KEPT = "what is done is kept, the same command goes on from there"
_FRAME_ROWS = 1024
_FRAME_BYTES = 4 * 1024 * 1024
_FRAME_S = 1.0


@expects(StatewiseError, LogError, OSError)
@connects
def score(
    connection: Connection,
    model: ModelOption,
    source: Annotated[
        str, typer.Option("--input", metavar="FILE", help="A .npz, .jsonl or .parquet file, or a pattern.")
    ],
    output: Annotated[Path, typer.Option(metavar="FILE", help="A .npz, .jsonl or .parquet file to write.")],
    version: VersionOption = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="The name of the best class instead of the outputs.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Forget what an interrupted run left, and begin anew.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Runs every sequence of a file, in order; a sequence that fails is reported in its place.

    Started again after an interruption, it goes on where it was; results so far are in OUTPUT.part. A line of
    .jsonl is {"id": ..., "inputs": ...}; docs/client.md tells what the other kinds of file hold.

    For example:

      statewise score --model vowels --input utterances.npz --output scores.jsonl

      statewise score --model vowels --input "day-*.jsonl" --output scores.parquet --labels
    """
    if output.suffix not in _KINDS:
        raise typer.BadParameter(f"expected a name ending in {', '.join(_KINDS)}", param_hint="--output")
    if output.exists() and any(path.samefile(output) for path in _inputs(source)):
        raise typer.BadParameter(f"{output} is an input, which it would replace", param_hint="--output")
    begun_s = time.monotonic()
    with connection.client() as client, ResultLog(output.with_name(output.name + ".part")) as log:
        if restart:
            log.begin(b"")
        info = client.model(model, version=version or _recorded_version(log))
        _claim(log, _identity(info, source, output, labels=labels))
        resumed = log.rows
        if resumed:
            remarks().print(f"going on at row {resumed:,}")
        kind = format_of(output.suffix, info.predicted)
        _run(client, info, source, log, kind, labels=labels)
        _finish(output, log, kind)
        seconds = time.monotonic() - begun_s
        done, failed = log.rows, log.failed
        log.remove()
    if as_json:
        print_json(
            {
                "model": info.name,
                "version": info.version,
                "output": str(output),
                "rows": done,
                "failed": failed,
                "resumed_at": resumed,
                "seconds": seconds,
                "rows_per_s": (done - resumed) / seconds,
            }
        )
    else:
        remarks().print(f"{done:,} rows, {failed:,} of them failed, in {seconds:,.1f} s: {output}")


def _run(client: Client, info: ModelInfo, source: str, log: ResultLog, kind: Format, *, labels: bool) -> None:
    results = client.score(
        info.name, source, start=log.rows, version=info.version, labels=labels, progress=True
    )
    waiting: list[Scored] = []
    waiting_bytes = 0
    due_s = time.monotonic() + _FRAME_S
    try:
        for scored in results:
            waiting.append(scored)
            waiting_bytes += _bytes(scored)
            full = len(waiting) >= _FRAME_ROWS or waiting_bytes >= _FRAME_BYTES
            if full or time.monotonic() >= due_s:
                _keep(log, kind, waiting)
                waiting, waiting_bytes = [], 0
                due_s = time.monotonic() + _FRAME_S
    except StatewiseError as error:
        fail(f"{error}; {_KEPT}")
    except KeyboardInterrupt:
        remarks().print(_KEPT)
        raise
    finally:
        _keep(log, kind, waiting)


def _keep(log: ResultLog, kind: Format, results: list[Scored]) -> None:
    if results:
        failed = sum(scored.error is not None for scored in results)
        log.append(kind.pack(results), rows=len(results), failed=failed)


def _finish(output: Path, log: ResultLog, kind: Format) -> None:
    """The file appears whole or not at all."""
    whole = output.with_name(output.name + ".new")
    kind.write(whole, log.payloads)
    with whole.open("rb+") as file:
        os.fsync(file.fileno())
    whole.replace(output)


def _identity(info: ModelInfo, source: str, output: Path, *, labels: bool) -> bytes:
    """What has to be the same for results to belong together."""
    files = [(os.path.realpath(path), path.stat()) for path in _inputs(source)]
    about = {
        "model": info.name,
        "version": info.version,
        "digest": info.digest,
        "labels": labels,
        "output": output.suffix,
        "input": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in files],
    }
    return json.dumps(about).encode()


def _inputs(source: str) -> list[Path]:
    """The files that the path or pattern names; the client says where there is none."""
    paths = [source] if Path(source).is_file() else sorted(glob(source, recursive=True))
    return [Path(path) for path in paths]


def _recorded_version(log: ResultLog) -> int | None:
    """A run ends with the version that it began with, also where the default is another one by now."""
    return int(json.loads(log.identity)["version"]) if log.identity else None


def _claim(log: ResultLog, identity: bytes) -> None:
    if not log.identity:
        log.begin(identity)
    elif log.identity != identity:
        was, now = json.loads(log.identity), json.loads(identity)
        differing = ", ".join(key for key in now if was.get(key) != now[key])
        raise LogError(f"{log.path} is of a run with another {differing}; --restart begins anew")


def _bytes(scored: Scored) -> int:
    values = scored.outputs.values() if isinstance(scored.outputs, dict) else [scored.outputs]
    return sum(getattr(value, "nbytes", 64) for value in values)
