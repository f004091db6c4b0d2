"""Encodes the results of some rows as one record's payload of binary columns, and decodes them.

A payload is a line of JSON about the rows, then the bytes of each output.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.cli._connection import in_words_of_command
from statewise.client import ModelInfo, Scored


@dataclass(frozen=True)
class ResultBlock:
    """The results of the rows of one record.

    Attributes:
        ids: Id of each row.
        files: Path of the file of each row; empty if results do not name files.
        errors: Error text of each row; empty for a row that succeeded.
        texts: Label or text of each row; None if outputs are arrays.
        lengths: Time steps of each row's outputs; 0 for a row that failed.
        columns: Each output by name: [sum(lengths), ...] if it has a time axis, else [rows, ...] with NaN
            (for integers 0) for the rows that failed.
    """

    ids: list[Any]
    files: list[str]
    errors: list[str]
    texts: list[str] | None
    lengths: list[int]
    columns: dict[str, NDArray[Any]]

    def texts_or_empty(self) -> list[str]:
        """Returns labels or texts; empty strings if outputs are arrays."""
        return self.texts if self.texts is not None else [""] * len(self.ids)


class ColumnCodec:
    """Encodes and decodes blocks.

    Args:
        model: The model that computed the outputs.
        names_files: Blocks hold the file of each row.
    """

    def __init__(self, model: ModelInfo, *, names_files: bool) -> None:
        self.names_files = names_files
        self.outputs = model.outputs
        self.timed = frozenset(spec.name for spec in model.outputs if model.timed and spec.per_step)
        """Names of the outputs with a time axis."""

    def pack(self, results: Sequence[Scored]) -> tuple[bytes, int]:
        """Encodes results; returns the payload and the count of numbers that are not finite.

        Rows that failed have no bytes after the line of JSON.
        """
        has_texts = any(isinstance(scored.outputs, str) for scored in results)
        arrays = [] if has_texts else [self._by_name(scored) for scored in results if scored.error is None]
        steps = (len(row[next(iter(self.timed))]) if self.timed else 1 for row in arrays)
        about = {
            "ids": [scored.id for scored in results],
            "files": [scored.file or "" for scored in results] if self.names_files else [],
            "errors": ["" if scored.error is None else error_text(scored.error) for scored in results],
            "words": [scored.outputs or "" for scored in results] if has_texts else None,
            "lengths": [0 if has_texts or scored.error is not None else next(steps) for scored in results],
        }
        columns = [(spec, b"".join(row[spec.name].tobytes() for row in arrays)) for spec in self.outputs]
        not_finite = sum(_count_not_finite(np.frombuffer(data, spec.dtype)) for spec, data in columns)
        line = json.dumps(about, default=str).encode() + b"\n"
        return line + b"".join(data for _, data in columns), not_finite

    def blocks(self, payloads: Iterable[bytes]) -> Iterator[ResultBlock]:
        """Decodes payloads that `pack` encoded."""
        for payload in payloads:
            line, _, data = payload.partition(b"\n")
            about = json.loads(line)
            yield ResultBlock(
                ids=about["ids"],
                files=about["files"],
                errors=about["errors"],
                texts=about["words"],
                lengths=about["lengths"],
                columns=self._columns(about["lengths"], data),
            )

    def _columns(self, row_lengths: list[int], data: bytes) -> dict[str, NDArray[Any]]:
        columns: dict[str, NDArray[Any]] = {}
        lengths = np.array(row_lengths, np.int64)
        begin = 0
        for spec in self.outputs:
            timed = spec.name in self.timed
            count = int(lengths.sum()) if timed else int((lengths > 0).sum())
            dtype = np.dtype(spec.dtype)
            end = begin + count * dtype.itemsize * math.prod(spec.shape)
            column = np.frombuffer(data[begin:end], dtype).reshape(count, *spec.shape)
            if not timed:
                all_rows = np.full((len(lengths), *spec.shape), np.nan if dtype.kind == "f" else 0, dtype)
                all_rows[lengths > 0] = column
                column = all_rows
            columns[spec.name] = column
            begin = end
        return columns

    def _by_name(self, scored: Scored) -> dict[str, NDArray[Any]]:
        outputs = scored.outputs
        return outputs if isinstance(outputs, dict) else {self.outputs[0].name: outputs}


@dataclass(frozen=True)
class Totals:
    """Sums over all blocks, which a file needs before its first row is written."""

    rows: int
    steps: int
    integer_ids: bool
    """Every id is an integer; otherwise ids are written as text."""
    has_texts: bool

    @classmethod
    def of(cls, blocks: Iterable[ResultBlock]) -> "Totals":
        """Computes the sums in one pass."""
        rows = steps = 0
        integer_ids, has_texts = True, False
        for block in blocks:
            rows += len(block.ids)
            steps += sum(block.lengths)
            integer_ids &= all(type(row_id) is int for row_id in block.ids)
            has_texts |= block.texts is not None
        return cls(rows, steps, integer_ids, has_texts)


def _count_not_finite(values: NDArray[Any]) -> int:
    return int(np.count_nonzero(~np.isfinite(values))) if values.dtype.kind == "f" else 0


def error_text(error: Exception) -> str:
    """Formats an error as result files hold it."""
    return f"{type(error).__name__}: {in_words_of_command(error)}"
