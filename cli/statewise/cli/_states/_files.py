"""Writes a matrix of states as .parquet, .csv, .npz and .jsonl files.

- .parquet and .csv: the columns `id`, `position`, and one a number of the state, named by part and number.
- .npz: `ids` [N], `positions` [N], `states` [N, S], `columns` [S].
- .jsonl: one line a session, `{"id": ..., "position": ..., "state": {PART: [...]}}`. Numbers that are not
  finite are null, and `not_finite` counts those of the line.
"""

import csv
import os
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from statewise.cli._terminal import NOT_FINITE, LineWriter, fail
from statewise.client import States


def write_whole(path: Path, states: States) -> None:
    """Writes the file beside its place and renames it, so that it never exists in part.

    Raises:
        OSError: It cannot be written.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        WRITERS[path.suffix](temporary, states)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def count_not_finite(states: States) -> int:
    """Counts the numbers that are not finite."""
    return int(states.matrix.size - np.isfinite(states.matrix).sum())


def _write_parquet(path: Path, states: States) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        fail(".parquet needs pyarrow; pip install 'statewise[parquet]'")
    names = ["id", "position", *states.columns]
    numbers = np.asfortranarray(states.matrix)
    arrays = [pa.array(states.ids, pa.string()), pa.array(states.positions, pa.uint64())]
    arrays += [pa.array(numbers[:, column]) for column in range(len(states.columns))]
    pq.write_table(pa.table(arrays, names=names), path)


def _write_csv(path: Path, states: States) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "position", *states.columns])
        rows = zip(states.ids, states.positions.tolist(), states.matrix, strict=True)
        # NumPy's numbers are written with the fewest digits that read back as the same number.
        writer.writerows([session_id, position, *map(str, row)] for session_id, position, row in rows)


def _write_npz(path: Path, states: States) -> None:
    with path.open("wb") as file:
        np.savez(
            file,
            ids=np.array(states.ids, np.str_),
            positions=states.positions,
            states=states.matrix,
            columns=np.array(states.columns, np.str_),
        )


def _write_jsonl(path: Path, states: States) -> None:
    lines = LineWriter()
    parts = _parts(states.columns)
    rows = zip(states.ids, states.positions.tolist(), states.matrix, strict=True)
    with path.open("wb") as file:
        for session_id, position, row in rows:
            arrays = {name: row[columns] for name, columns in parts.items()}
            value = {"id": session_id, "position": position, "state": arrays}
            line, count = lines.line(value)
            file.write(lines.line({**value, NOT_FINITE: count})[0] if count else line)


def _parts(columns: Sequence[str]) -> dict[str, slice]:
    """Returns the columns of each part, whose names are `PART[NUMBER]`."""
    parts = {}
    begin = 0
    for name, group in groupby(column.rpartition("[")[0] for column in columns):
        end = begin + sum(1 for _ in group)
        parts[name] = slice(begin, end)
        begin = end
    return parts


WRITERS: dict[str, Callable[[Path, States], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".npz": _write_npz,
    ".jsonl": _write_jsonl,
}
"""What writes a file, by its suffix."""
