"""What rows of a request emitted, on its way to whoever asked. Values only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from statewise.service.base import Array, RowFailure
from statewise.service.inputs import TextWriter
from statewise.service.scheduling import EmittedChunk


@dataclass(frozen=True, slots=True)
class GeneratedPart:
    """What some rows emitted, or why rows do not.

    Attributes:
        chunk: What was emitted, rows being indices into the request; None: nothing.
        name: What the values are called.
        text: What it adds to each row's text; None: the model writes no text.
        failures: Rows that failed; what they emitted before is void.
    """

    chunk: EmittedChunk | None
    name: str = ""
    text: list[str] | None = None
    failures: Sequence[RowFailure] = ()

    @property
    def ended(self) -> int:
        """Rows that will emit no more."""
        return 0 if self.chunk is None else int(np.count_nonzero(self.chunk.ended))

    @property
    def emitted(self) -> int:
        """Values."""
        return 0 if self.chunk is None else int(self.chunk.lengths.sum())


def with_text(part: GeneratedPart, writer: TextWriter | None) -> GeneratedPart:
    """The same with what its values add to each row's text."""
    if writer is None or part.chunk is None:
        return part
    rows = part.chunk.rows.tolist()
    return replace(part, text=[writer.add(*pair) for pair in zip(rows, _by_row(part.chunk), strict=True)])


class WholeRows:
    """Holds rows back until they have ended."""

    def __init__(self) -> None:
        self._held: dict[int, list[tuple[Array, str]]] = {}

    def add(self, part: GeneratedPart) -> GeneratedPart:
        """The rows that have ended with this part, with all they emitted; and the failures."""
        for failure in part.failures:
            self._held.pop(failure.row, None)
        chunk = part.chunk
        if chunk is None:
            return part
        text = part.text or [""] * len(chunk.rows)
        for row, piece, words in zip(chunk.rows.tolist(), _by_row(chunk), text, strict=True):
            self._held.setdefault(row, []).append((piece, words))
        if not chunk.ended.any():
            return replace(part, chunk=None, text=None)
        rows = chunk.rows[chunk.ended]
        pieces = [self._held.pop(row) for row in rows.tolist()]
        values = [np.concatenate([array for array, _ in held]) for held in pieces]
        whole = EmittedChunk(
            rows,
            np.array([len(array) for array in values], np.uint32),
            np.concatenate(values),
            chunk.positions[chunk.ended],
            chunk.ended[chunk.ended],
        )
        joined = ["".join(words for _, words in held) for held in pieces]
        return replace(part, chunk=whole, text=None if part.text is None else joined)


def parts_within(part: GeneratedPart, limit_bytes: int) -> list[GeneratedPart]:
    """The same in parts whose values fill so many bytes at most, or are one row's."""
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
