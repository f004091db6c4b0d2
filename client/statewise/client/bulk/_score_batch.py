"""Reads samples into rows that know their size, and puts rows together into requests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    id: object
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
        self._limits = limits
        self._clock = clock
        self._longest_steps = limits.row_steps
        self._step_bytes = size_bytes(spec for spec in model.outputs if spec.per_step)
        self._result_bytes = RESULT_BYTES + size_bytes(spec for spec in model.outputs if not spec.per_step)

    def read(self, index: int, name: object, value: object) -> ScoreRow:
        """Reads a sample's inputs into a row.

        Raises:
            InvalidInput: they are not one sequence that the model takes.
            LimitReached: the sequence does not fit into a request.
        """
        if isinstance(value, str):
            Query.of(self._model, value)
            size = len(value.encode())
            # A character is at most a token, and at least a byte.
            return self._sized(index, name, max(size, 1), (), value, False, size)
        columns, steps, stepwise = self._columns(value)
        return self._sized(index, name, steps, columns, "", stepwise, self._limits.cost_bytes(steps))

    def _columns(self, value: object) -> tuple[tuple[Array, ...], int, bool]:
        column = self._inputs.column_of_sequence(value)
        if column is not None:
            return (column,), len(column), False
        if isinstance(value, list | tuple):
            value = _as_array(value)
        elif isinstance(value, dict):
            value = {key: _as_array(part) for key, part in value.items()}
        rows = self._inputs.read(value, Use.PREDICT)
        if rows.form is not Form.ONE:
            raise InvalidInput(f"expected one sequence; got a batch of {len(rows.steps)}")
        return rows.columns, int(rows.steps[0]), rows.stepwise

    def _sized(
        self,
        index: int,
        name: object,
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
            name,
            (bool(columns), stepwise),
            steps,
            columns,
            text,
            stepwise,
            send_bytes,
            send_bytes + self._result_bytes + steps * self._step_bytes,
            self._clock(),
        )


def _as_array(value: object) -> object:
    try:
        return np.asarray(value)
    except ValueError:
        return value  # rows of unequal length; `InputReader` raises the error
