"""Writes results as a .parquet file, in row groups of equal size."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from statewise.client import TensorInfo

_GROUP_ROWS = 4096
_GROUP_BYTES = 256 * 1024 * 1024

Row = tuple[Any, str, str, dict[str, Any]]
"""Id, error, label or text, and outputs by name."""


def write_parquet(
    path: Path,
    outputs: Sequence[TensorInfo],
    rows: Iterable[Row],
    *,
    timed: Collection[str],
    integer_ids: bool,
) -> None:
    """Writes the columns `id`, `error` and the outputs.

    Args:
        path: Path of the file.
        outputs: Outputs of the model; empty if outputs are labels or texts.
        rows: The rows, in order.
        timed: Names of the outputs with a time axis.
        integer_ids: Ids are integers; otherwise they are written as text.
    """
    import pyarrow.parquet as pq

    def table(group: list[Row]) -> Any:
        return _table(outputs, group, timed=timed, integer_ids=integer_ids)

    with pq.ParquetWriter(path, table([]).schema) as writer:
        for group in _groups(rows):
            writer.write_table(table(group), row_group_size=len(group))


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(value.nbytes for value in row[3].values())
        if len(group) == _GROUP_ROWS or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _table(
    outputs: Sequence[TensorInfo], rows: Sequence[Row], *, timed: Collection[str], integer_ids: bool
) -> Any:
    import pyarrow as pa

    failed = np.array([bool(error) for _, error, _, _ in rows], np.bool_)
    ids = [row_id if integer_ids else str(row_id) for row_id, _, _, _ in rows]
    columns = {
        "id": pa.array(ids, pa.int64() if integer_ids else pa.string()),
        "error": pa.array([error or None for _, error, _, _ in rows], pa.string()),
    }
    if not outputs:
        texts = [None if error else text for _, error, text, _ in rows]
        columns["outputs"] = pa.array(texts, pa.string())
    for spec in outputs:
        name = "outputs" if len(outputs) == 1 else f"outputs.{spec.name}"
        arrays = [values[spec.name] for _, _, _, values in rows]
        columns[name] = _column(spec, arrays, failed, timed=spec.name in timed)
    return pa.table(columns)


def _column(spec: TensorInfo, arrays: Sequence[Any], failed: Any, *, timed: bool) -> Any:
    """Converts arrays of equal rank to nested lists without creating a Python object for each number."""
    import pyarrow as pa

    shape = (0, *spec.shape) if timed else spec.shape
    if not shape:
        return pa.array(np.array(arrays, spec.dtype), mask=failed)
    flat = np.concatenate([np.empty(0, spec.dtype), *[array.reshape(-1) for array in arrays]])
    values = pa.array(flat)
    # All axes but the first have the model's sizes; they become lists from the innermost outwards.
    for size in reversed(shape[1:]):
        ends = np.arange(0, len(values) + 1, size)
        values = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values)
    offsets = np.concatenate([[0], np.cumsum([len(array) for array in arrays])])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, mask=pa.array(failed, pa.bool_()))
