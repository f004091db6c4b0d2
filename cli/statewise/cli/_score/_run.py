"""Runs sequences and keeps their results: scores what the log lacks, then writes the file of results."""

import json
import os
import time
from pathlib import Path
from typing import Any

from statewise.cli._connection import in_words_of_command
from statewise.cli._score._input import Input
from statewise.cli._score._log import LogError, ResultLog
from statewise.cli._score._output import format_of
from statewise.cli._terminal import NOT_FINITE, fail, remark
from statewise.client import Client, ModelInfo, Scored, StatewiseError

_RECORD_ROWS = 1024
_RECORD_BYTES = 4 * 1024 * 1024
_RECORD_S = 1.0


class BulkRun:
    """One run of `statewise score`.

    Args:
        client: The server's.
        info: The model version that runs.
        opened: The sequences.
        output: Path of the file of results.
        log: The results so far.
        labels: Results are names of classes.
        max_failures: Stop after so many rows that failed; None: never.
    """

    def __init__(
        self,
        client: Client,
        info: ModelInfo,
        opened: Input,
        output: Path,
        log: ResultLog,
        *,
        labels: bool,
        max_failures: int | None,
    ) -> None:
        self._client = client
        self._info = info
        self._input = opened
        self._output = output
        self._log = log
        self._labels = labels
        self._max_failures = max_failures
        self._format = format_of(output.suffix, info.predicted, names_files=opened.names_files)
        self._pending: list[Scored] = []
        self._failed = log.failed
        self._first_error: str | None = None

    @staticmethod
    def recorded_version(log: ResultLog) -> int | None:
        """Returns the version that an interrupted run used, which may no longer be the default one."""
        return int(json.loads(log.identity)["version"]) if log.identity else None

    def begin(self) -> None:
        """Writes into a new log what identifies the run.

        Raises:
            LogError: The log belongs to another run, or to one that cannot be continued.
        """
        identity = self._identity()
        recorded = json.loads(self._log.identity) if self._log.identity else identity
        differing = ", ".join(key for key in identity if recorded.get(key) != identity[key])
        if differing:
            raise LogError(
                f"{self._log.path} belongs to a run with another {differing}; --restart discards it"
            )
        if not self._log.identity:
            self._log.begin(json.dumps(identity).encode())
        elif not self._input.resumable:
            raise LogError(
                f"{self._log.path} belongs to a run that read stdin, which cannot be read again; "
                "--restart discards it"
            )
        if not self._input.resumable:
            remark("stdin cannot be read again, so this run cannot be continued")

    def score(self) -> None:
        """Scores the sequences that the log lacks, and appends a record at least every second.

        Ends the command if the server stays away, or if `max_failures` rows failed.
        """
        self._check_failures()
        results = self._client.score(
            self._info.name,
            self._input.source,
            start=self._log.rows,
            version=self._info.version,
            labels=self._labels,
            progress=True,
        )
        pending_bytes = 0
        due_s = time.monotonic() + _RECORD_S
        try:
            for scored in results:
                self._pending.append(scored)
                pending_bytes += _size_bytes(scored)
                if scored.error is not None:
                    self._note_failure(scored.error)
                full = len(self._pending) >= _RECORD_ROWS or pending_bytes >= _RECORD_BYTES
                if full or time.monotonic() >= due_s:
                    self._append()
                    pending_bytes = 0
                    due_s = time.monotonic() + _RECORD_S
        except StatewiseError as error:
            self._append()
            fail(self._with_what_is_kept(in_words_of_command(error)))
        except KeyboardInterrupt:
            self._append()
            remark(self._with_what_is_kept("interrupted"))
            raise
        finally:
            self._append()

    def write(self) -> None:
        """Writes the file of results, whole or not at all."""
        self._log.note_complete()
        self._write(self._output)

    def report(self, *, resumed_at: int, seconds: float) -> dict[str, Any]:
        """Summarises the run for --json; `not_finite` counts numbers of the outputs, if there are any."""
        report = {
            "model": self._info.name,
            "version": self._info.version,
            "output": str(self._output),
            "rows": self._log.rows,
            "failed": self._log.failed,
            "resumed_at": resumed_at,
            "seconds": seconds,
            "rows_per_s": (self._log.rows - resumed_at) / seconds,
        }
        return {**report, NOT_FINITE: self._log.not_finite} if self._log.not_finite else report

    def fail_if_all_failed(self) -> None:
        """Ends the command with exit code 1 if there are rows and all of them failed."""
        if self._log.rows and self._log.failed == self._log.rows:
            first = f"; the first: {self._first_error}" if self._first_error else ""
            fail(f"every row failed{first}")

    def _identity(self) -> dict[str, Any]:
        """Describes the run; results of two runs may share a log only if this is equal."""
        return {
            "model": self._info.name,
            "version": self._info.version,
            "digest": self._info.digest,
            "labels": self._labels,
            "output": self._output.suffix,
            "input": self._input.identity,
        }

    def _note_failure(self, error: StatewiseError) -> None:
        self._failed += 1
        if self._first_error is None:
            self._first_error = in_words_of_command(error)
        if self._failed == self._max_failures:
            self._append()
            self._check_failures()

    def _check_failures(self) -> None:
        if self._max_failures is not None and self._log.failed >= self._max_failures:
            last = f"; the first: {self._first_error}" if self._first_error else ""
            text = (
                f"{self._log.failed:,} of {self._log.rows:,} rows failed, so the run stops (--max-failures)"
            )
            fail(self._with_what_is_kept(text + last))

    def _append(self) -> None:
        # Emptied first: an interruption must not let the same rows be appended twice.
        pending, self._pending = self._pending, []
        if pending:
            payload, not_finite = self._format.pack(pending)
            failed = sum(scored.error is not None for scored in pending)
            self._log.append(payload, rows=len(pending), failed=failed, not_finite=not_finite)

    def _with_what_is_kept(self, reason: str) -> str:
        """Adds to the reason of an early end what becomes of the results so far."""
        rows = self._log.rows
        if not rows:
            return reason
        if self._input.resumable:
            return f"{reason}; {rows:,} results are kept, and the same command continues from there"
        part = self._output.with_stem(self._output.stem + ".interrupted")
        self._write(part)
        self._log.begin(b"")
        return f"{reason}; the results of {rows:,} rows are in {part}"

    def _write(self, path: Path) -> None:
        """Writes the results beside their place and renames the file, so that it never exists in part."""
        temporary = path.with_name(path.name + ".new")
        self._format.write(temporary, self._log.payloads)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)


def _size_bytes(scored: Scored) -> int:
    values = scored.outputs.values() if isinstance(scored.outputs, dict) else [scored.outputs]
    return sum(getattr(value, "nbytes", 64) for value in values)
