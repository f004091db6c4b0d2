"""Sequences to score, the files that hold them, and what their results must be."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tests.client.samples import sequences
from tests.helpers.models.small import SmallModel

RAGGED = sequences(5, 1, 12, 5, 30, 2, 7)


def expect_outputs(found: list[Any], rows: list[Any], model: SmallModel) -> None:
    assert [scored.index for scored in found] == list(range(len(rows)))
    for scored, row in zip(found, rows, strict=True):
        assert scored.error is None
        np.testing.assert_array_equal(scored.outputs, model.run(np.asarray(row, np.float32))[0])


def write(path: Path, rows: list[Any]) -> Path:
    """Writes the rows to a file of the kind that its suffix names, with ids."""
    ids = [f"row {index}" for index in range(len(rows))]
    match path.suffix:
        case ".jsonl":
            lines = [{"id": name, "inputs": row.tolist()} for name, row in zip(ids, rows, strict=True)]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        case ".npz":
            lengths = [len(row) for row in rows]
            np.savez(path, inputs=np.concatenate(rows), lengths=lengths, ids=ids)
        case ".parquet":
            column = pa.array([row.tolist() for row in rows], pa.list_(pa.list_(pa.float32())))
            pq.write_table(pa.table({"id": ids, "inputs": column}), path, row_group_size=3)
    return path
