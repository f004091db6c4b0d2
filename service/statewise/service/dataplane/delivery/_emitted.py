"""Holds the values that rows of a request emitted, until the caller gets them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, RowFailure
from statewise.service.inputs import TextWriter
from statewise.service.scheduling import EmittedChunk


@dataclass(frozen=True, slots=True)
class SessionEnds:
    """Where sessions stand after a generation.

    Attributes:
        rows: Indices into the request.
        positions: Time steps that each has consumed, uint64 [rows].
        durable_positions: Time steps of each that the store has, uint64 [rows].
    """

    rows: NDArray[np.intp]
    positions: NDArray[np.uint64]
    durable_positions: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class GeneratedPart:
    """Values that some rows emitted, and rows that failed.

    Attributes:
        chunk: The values; its rows are indices into the request; None: no values.
        name: Name of the emitted tensor.
        text: The text that the values add to each row of the chunk; None: the model emits no text.
        failures: Rows that failed; their earlier values are void.
        ends: Of a store's sessions, with the last part: where the rows that did not fail stand now.
    """

    chunk: EmittedChunk | None
    name: str = ""
    text: list[str] | None = None
    failures: Sequence[RowFailure] = ()
    ends: SessionEnds | None = None

    @property
    def rows_ended(self) -> int:
        """Number of rows that will emit no more."""
        return 0 if self.chunk is None else int(np.count_nonzero(self.chunk.ended))

    @property
    def values_emitted(self) -> int:
        """Number of values."""
        return 0 if self.chunk is None else int(self.chunk.lengths.sum())


def with_text(part: GeneratedPart, writer: TextWriter | None) -> GeneratedPart:
    """Returns the part with the text that its values add to each row; None: as it is."""
    if writer is None or part.chunk is None:
        return part
    rows = part.chunk.rows.tolist()
    text = [writer.add(row, values) for row, values in zip(rows, _by_row(part.chunk), strict=True)]
    return replace(part, text=text)


class RowBuffer:
    """Holds the values of each row back until the row has ended."""

    def __init__(self) -> None:
        self._held: dict[int, list[tuple[Array, str]]] = {}

    def add(self, part: GeneratedPart) -> GeneratedPart:
        """Returns the rows that end with this part, with all their values; and the part's failures."""
        for failure in part.failures:
            self._held.pop(failure.row, None)
        chunk = part.chunk
        if chunk is None:
            return part
        text = part.text or [""] * len(chunk.rows)
        for row, values, words in zip(chunk.rows.tolist(), _by_row(chunk), text, strict=True):
            self._held.setdefault(row, []).append((values, words))
        if not chunk.ended.any():
            return replace(part, chunk=None, text=None)
        rows = chunk.rows[chunk.ended]
        ended = [self._held.pop(row) for row in rows.tolist()]
        arrays = [np.concatenate([array for array, _ in held]) for held in ended]
        whole = EmittedChunk(
            rows,
            np.array([len(array) for array in arrays], np.uint32),
            np.concatenate(arrays),
            chunk.positions[chunk.ended],
            chunk.ended[chunk.ended],
        )
        joined = ["".join(words for _, words in held) for held in ended]
        return replace(part, chunk=whole, text=None if part.text is None else joined)


def parts_within(part: GeneratedPart, limit_bytes: int) -> list[GeneratedPart]:
    """Splits a part into parts of at most that many bytes of values each, or of one row."""
    chunk = part.chunk
    if chunk is None or chunk.values.nbytes <= limit_bytes or len(chunk.rows) == 1:
        return [part]
    half = len(chunk.rows) // 2
    middle = int(chunk.lengths[:half].sum())
    halves = []
    for rows, values in (
        (slice(None, half), slice(None, middle)),
        (slice(half, None), slice(middle, None)),
    ):
        cut = EmittedChunk(
            chunk.rows[rows],
            chunk.lengths[rows],
            chunk.values[values],
            chunk.positions[rows],
            chunk.ended[rows],
        )
        text = None if part.text is None else part.text[rows]
        halves.append(GeneratedPart(cut, part.name, text))
    first, second = halves
    return [
        *parts_within(replace(first, failures=part.failures), limit_bytes),
        *parts_within(second, limit_bytes),
    ]


def _by_row(chunk: EmittedChunk) -> list[Array]:
    return np.split(chunk.values, np.cumsum(chunk.lengths)[:-1])
