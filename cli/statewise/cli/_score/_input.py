"""Opens what `--input` names: files, or standard input, which can be read only once."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from statewise.client import SampleFiles

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Input:
    """The sequences of a run.

    Attributes:
        source: The files, or the stream, as `Client.score` takes them.
        resumable: An interrupted run can read them again.
        names_files: Results name the file of each sequence, because there are several.
        layout: The options that say how a .csv is read.
    """

    source: Any
    resumable: bool
    names_files: bool
    layout: tuple[str | None, str] = (None, "")

    @property
    def paths(self) -> Sequence[Path]:
        """The files; none for standard input."""
        return self.source.paths if isinstance(self.source, SampleFiles) else ()

    @property
    def identity(self) -> Any:
        """What is equal as long as the input is the same: how it is read; path, size, time of each file."""
        if not self.resumable:
            return STANDARD_INPUT
        stats = [(os.path.realpath(path), path.stat()) for path in self.paths]
        return [[*self.layout], *([name, stat.st_size, stat.st_mtime_ns] for name, stat in stats)]


def open_input(names: Sequence[str], *, sequence: str | None, columns: str) -> Input:
    """Opens the files or the stream that `names` stands for.

    Args:
        names: Paths, patterns, or `-` alone.
        sequence: Column of .csv files that holds the ids of sequences.
        columns: Columns of .csv files that are inputs, as a line of a .csv.

    Raises:
        InvalidInput: There is no such file, or one of another kind.
    """
    if STANDARD_INPUT not in names:
        import csv

        chosen = next(csv.reader([columns]), [])
        files = SampleFiles(*names, sequence=sequence, columns=[name.strip() for name in chosen])
        several = len(files.paths) > 1
        return Input(files, resumable=True, names_files=several, layout=(sequence, columns))
    if len(names) > 1:
        raise typer.BadParameter(
            "expected - alone; `cat FILE - | statewise score --input -` reads both", param_hint="--input"
        )
    if sequence is not None or columns:
        raise typer.BadParameter(
            "- is read as .jsonl, which has no columns", param_hint="--sequence, --columns"
        )
    return Input(sys.stdin.buffer, resumable=False, names_files=False)
