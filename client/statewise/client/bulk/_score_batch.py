"""Reads samples into rows that know their size, and puts rows together into requests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from statewise.client.bulk._csv import CsvSteps
from statewise.client.bulk._samples import Item
from statewise.client.requests import Query
from statewise.client.values import (
    Array,
    Form,
    InputReader,
    InvalidInput,
    LimitReached,
    ModelInfo,
    RequestLimits,
    Rows,
    Use,
    size_bytes,
)

RESULT_BYTES = 512
"""Size of a result without its arrays."""


@dataclass(slots=True)
class ScoreRow:
    """One sequence as it waits to be sent."""

    index: int
    item: Item
    """Without its inputs."""
    kind: tuple[bool, bool]
    """(not a text, without a time axis). Rows of different kinds cannot share a request."""
    steps: int
    columns: tuple[Array, ...]
    """One array for each input; none for a text."""
    text: str
    stepwise: bool
    send_bytes: int
    """Size in a request."""
    held_bytes: int
    """Inputs and outputs together."""
    offered_s: float


@dataclass(frozen=True, slots=True)
class ScoreBatch:
    """The rows of one request."""

    model: ModelInfo
    rows: tuple[ScoreRow, ...]
    taken_s: float
    """When it was sent, monotonic seconds."""
    in_flight: int
    """Requests under way when this one was sent, itself included."""

    @property
    def steps(self) -> int:
        """Time steps of all rows."""
        return sum(row.steps for row in self.rows)

    def query(self, indices: Sequence[int]) -> Query:
        """Builds the query for some of the rows, given by index."""
        rows = [self.rows[index] for index in indices]
        if not rows[0].columns:
            return Query(self.model, Form.LIST, len(rows), None, tuple(row.text for row in rows))
        columns = tuple(
            np.concatenate([row.columns[number] for row in rows]) for number in range(len(rows[0].columns))
        )
        steps = np.array([row.steps for row in rows], np.uint32)
        return Query(self.model, Form.LIST, len(rows), Rows(Form.LIST, steps, rows[0].stepwise, columns), ())


class RowReader:
    """Reads samples into rows.

    Args:
        model: the version that runs.
        limits: limits of a request.
        clock: monotonic seconds.
    """

    def __init__(self, model: ModelInfo, limits: RequestLimits, *, clock: Callable[[], float]) -> None:
        self._model = model
        self._inputs = InputReader(model)
        self._only_float32 = [spec.dtype for spec in model.inputs] == ["float32"]
        self._limits = limits
        self._clock = clock
        self._longest_steps = limits.row_steps
        self._step_bytes = size_bytes(spec for spec in model.outputs if spec.per_step)
        self._result_bytes = RESULT_BYTES + size_bytes(spec for spec in model.outputs if not spec.per_step)

    def read(self, index: int, item: Item) -> ScoreRow:
        """Reads a sample's inputs into a row.

        Raises:
            InvalidInput: they are not one sequence that the model takes.
            LimitReached: the sequence does not fit into a request.
        """
        value = item.inputs
        if isinstance(value, InvalidInput):
            raise value
        item = Item(item.id, None, item.file, item.line)
        if isinstance(value, str):
            Query.of(self._model, value)
            size = _utf8_bytes(value)
            # A character is at most a token, and at least a byte.
            return self._sized(index, item, max(size, 1), (), value, False, size)
        columns, steps, stepwise = self._columns(value)
        return self._sized(index, item, steps, columns, "", stepwise, self._limits.cost_bytes(steps))

    def _columns(self, value: object) -> tuple[tuple[Array, ...], int, bool]:
        if isinstance(value, CsvSteps):
            value = value.for_model(self._model).tolist()
        numbers = self._rounded(value)
        column = self._inputs.column_of_sequence(value if numbers is None else numbers)
        if column is not None:
            return (column,), len(column), False
        rows = self._inputs.read(value, Use.PREDICT)
        if rows.form is not Form.ONE:
            raise InvalidInput(f"expected one sequence; got a batch of {len(rows.steps)}")
        return rows.columns, int(rows.steps[0]), rows.stepwise

    def _rounded(self, value: object) -> Array | None:
        """Rounds numbers read from text to float32 if the model takes only this; else None: a fast path."""
        if (
            not self._only_float32
            or not isinstance(value, list)
            or any(isinstance(row, np.ndarray) for row in value[:1])
        ):
            return None
        try:
            array = np.asarray(value)
            with np.errstate(over="raise"):
                return array.astype(np.float32) if array.dtype == np.float64 else None
        except (ValueError, FloatingPointError):
            return None  # rows of unequal length, or a number too large: `InputReader` raises the error

    def _sized(
        self,
        index: int,
        item: Item,
        steps: int,
        columns: tuple[Any, ...],
        text: str,
        stepwise: bool,
        send_bytes: int,
    ) -> ScoreRow:
        if steps > self._longest_steps or send_bytes > self._limits.bytes:
            raise LimitReached(
                f"expected at most {self._longest_steps} time steps a row, what fits into one request; "
                f"got {steps}"
            )
        return ScoreRow(
            index,
            item,
            (bool(columns), stepwise),
            steps,
            columns,
            text,
            stepwise,
            send_bytes,
            send_bytes + self._result_bytes + steps * self._step_bytes,
            self._clock(),
        )


def _utf8_bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(f"expected text; got half of a surrogate pair at {error.start}") from None
