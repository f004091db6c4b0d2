"""Encodes whole sequences as requests, and puts the outputs of their responses in order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.client.stream import set_timeout
from statewise.client.values import (
    Array,
    Form,
    GivenState,
    InputReader,
    InvalidInput,
    ModelInfo,
    NotImplementedByServer,
    PartialFailure,
    RequestLimits,
    Rows,
    Status,
    Subject,
    Use,
    Value,
    check_text,
    elements_of,
    error_of,
    given_state,
    of_batch,
    read_outputs,
    rows_of,
    status_of_row,
)
from statewise.v1 import sequence_pb2
from statewise.wire import Chunk, named_tensor, pack_uint32, unpack_uint32


@dataclass(frozen=True, slots=True)
class Query:
    """Sequences to run: arrays, or texts for a model with a vocabulary."""

    model: ModelInfo
    form: Form
    count: int
    rows: Rows | None
    texts: tuple[str, ...]
    state: GivenState | None = None
    """What the rows begin in; None: the model's initial state."""

    @classmethod
    def of(cls, model: ModelInfo, value: object) -> "Query":
        """Reads a caller's sequences.

        Raises:
            InvalidInput: the model cannot take them.
        """
        if isinstance(value, str):
            return cls(model, Form.ONE, 1, None, _texts(model, [value]))
        if isinstance(value, list | tuple) and value and isinstance(value[0], str):
            return cls(model, Form.LIST, len(value), None, _texts(model, value))
        rows = InputReader(model).read(value, Use.PREDICT)
        return cls(model, rows.form, len(rows.steps), rows, ())

    def begun_in(self, state: object) -> "Query":
        """Returns the same sequences, begun in the states that a caller gives; None: in the model's own.

        Raises:
            InvalidInput: they do not fit the model, or the number of sequences.
        """
        if state is None:
            return self
        count = None if self.form is Form.ONE else self.count
        return replace(self, state=given_state(self.model, state, count=count))

    def requests(
        self, request_limits: RequestLimits, *, version: int, timeout_s: float | None, labels: bool
    ) -> Iterator[tuple[int, bytes]]:
        """Yields encoded requests that fit into the server's limits, each with the index of its first row.

        Raises:
            LimitReached: a sequence alone does not fit into a request.
        """
        for begin, end in self._bounds(request_limits):
            request = sequence_pb2.PredictRequest(
                model=self.model.name, version=version, return_labels=labels
            )
            set_timeout(request, timeout_s)
            if self.state is not None:
                self.state.fill(request.state, begin, end)
            inputs: list[Chunk] = []
            if self.rows is None:
                request.text.rows.extend(self.texts[begin:end])
            else:
                steps = self.rows.steps
                request.lengths = pack_uint32(steps[begin:end])
                first, last = int(steps[:begin].sum()), int(steps[:end].sum())
                for spec, column in zip(self.model.inputs, self.rows.columns, strict=True):
                    cut = column[first:last] if spec.per_step else column[begin:end]
                    inputs += named_tensor(
                        request.INPUTS_FIELD_NUMBER, spec.name, spec.dtype, cut.shape, [cut.data]
                    )
            yield begin, b"".join([request.SerializeToString(), *inputs])

    def _bounds(self, request_limits: RequestLimits) -> list[tuple[int, int]]:
        request_limits = request_limits.with_state(self.state)
        if self.rows is not None:
            return request_limits.bounds(self.rows.steps)
        return request_limits.texts_bounds(self.texts)


class Answers:
    """The outputs for a query, collected from responses in any order.

    Args:
        query: the sequences.
        model: the version that ran.
    """

    def __init__(self, query: Query, model: ModelInfo) -> None:
        self._query = query
        self._model = model
        self._parts: list[tuple[NDArray[np.intp], NDArray[np.uint32], list[Array]]] = []
        self._labels: dict[int, str] = {}
        self._texts: dict[int, str] = {}
        self._failures: dict[int, Status] = {}

    def add(self, first_row: int, response: sequence_pb2.PredictResponse) -> None:
        """Takes a response to the request whose first row is `first_row`.

        Raises:
            ValueError: the response makes no sense.
        """
        for error in response.errors:
            self._failures[first_row + error.row] = status_of_row(error)
        rows = unpack_uint32(response.rows).astype(np.intp) + first_row
        if not len(rows):
            return
        steps = unpack_uint32(response.lengths)
        if len(steps) != len(rows) or int(rows.max()) >= self._query.count:
            raise ValueError(f"rows {rows.tolist()} with {len(steps)} lengths")
        self._labels.update(zip(rows.tolist(), response.labels, strict=False))
        if self._query.rows is None:  # text in, text out
            self._texts.update(zip(rows.tolist(), response.text.rows, strict=False))
        outputs = read_outputs(self._model, response.outputs, rows=len(rows), steps=int(steps.sum()))
        self._parts.append((rows, steps, outputs))

    def value(self, *, labels: bool) -> Value:
        """Returns all outputs, arranged as the query's sequences.

        Raises:
            PartialFailure: some rows failed.
            StatewiseError: the query is a single sequence, and it failed.
        """
        query, model = self._query, self._model
        steps = self._settled()
        subject = Subject(model=model.name, version=model.version)
        errors = {row: error_of(status, subject) for row, status in self._failures.items()}
        if errors and query.form is Form.ONE:
            raise errors[0]
        outputs = self._assembled(steps)
        stepwise = not model.timed
        words = self._labels if labels else self._texts
        if words:
            in_order = [words.get(row) for row in range(query.count)]
            if errors:
                raise PartialFailure(in_order, errors)
            return in_order[0] if query.form is Form.ONE else in_order
        if errors:
            kept = rows_of(model, outputs, steps, stepwise=stepwise, without=errors)
            raise PartialFailure(kept, errors)
        form = query.form
        if form is Form.ARRAY and not stepwise and (steps != steps[0]).any():
            form = Form.LIST  # an encoder-decoder's outputs need not be equally long
        return of_batch(model, outputs, steps, form=form, stepwise=stepwise)

    def outcomes(self, *, labels: bool) -> list[Value | Status]:
        """Returns the outputs of every row, or the status with which the row failed."""
        steps = self._settled()
        words = self._labels if labels else self._texts
        if labels and self._parts and not words:
            raise NotImplementedByServer("the server returned no labels")
        values: list[Value | None] = (
            [words.get(row) for row in range(self._query.count)]
            if words
            else rows_of(
                self._model,
                self._assembled(steps),
                steps,
                stepwise=not self._model.timed,
                without=self._failures,
            )
        )
        return [self._failures.get(row, value) for row, value in enumerate(values)]

    def _settled(self) -> NDArray[np.uint32]:
        """Returns time steps of every row's outputs; rows without an answer count as failed from now on."""
        steps = np.zeros(self._query.count, np.uint32)
        answered = np.zeros(self._query.count, np.bool_)
        for rows, lengths, _ in self._parts:
            steps[rows] = lengths
            answered[rows] = True
        for row in np.flatnonzero(~answered).tolist():
            self._failures.setdefault(row, _UNANSWERED)
        return steps

    def _assembled(self, steps: NDArray[np.uint32]) -> list[Array]:
        if len(self._parts) == 1 and np.array_equal(self._parts[0][0], np.arange(self._query.count)):
            return self._parts[0][2]
        outputs: list[Any] = []
        for index, spec in enumerate(self._model.outputs):
            length = int(steps.sum()) if spec.per_step else self._query.count
            whole = np.zeros((length, *spec.shape), spec.dtype)
            for rows, _, arrays in self._parts:
                whole[elements_of(rows, steps) if spec.per_step else rows] = arrays[index]
            outputs.append(whole)
        return outputs


_UNANSWERED = Status("INTERNAL", message="the server gave no answer for this row")


def _texts(model: ModelInfo, rows: Sequence[str]) -> tuple[str, ...]:
    if model.vocabulary is None:
        raise InvalidInput(f"model {model.name!r} has no vocabulary: expected arrays; got text")
    for number, row in enumerate(rows):
        check_text("inputs" if len(rows) == 1 else f"inputs, row {number}", row)
    return tuple(rows)
