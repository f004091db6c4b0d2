"""Reads the conditions that sessions of an encoder-decoder begin from: one for all, or one for each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from statewise.client.requests._predict import Query
from statewise.client.values import Form, InvalidInput, Limits, ModelInfo, RequestLimits, elements_of, wrong
from statewise.v1 import sequence_pb2
from statewise.wire import pack_uint32, to_tensor


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of sessions in a fixed order."""

    model: ModelInfo
    query: Query
    """The encoder's input: one row for all sessions, or one for each."""

    @classmethod
    def of(cls, model: ModelInfo, value: object, *, count: int) -> "Conditions":
        """Reads a caller's value for `count` sessions.

        Raises:
            InvalidInput: the model has no encoder, its encoder cannot take the value, or the number is wrong.
        """
        if not model.encoder_inputs:
            expected = f"None, as model {model.name!r} has no encoder: step() takes inputs"
            raise wrong("condition", expected, value)
        try:
            query = Query.of(model.encoder, value)
        except InvalidInput as error:
            raise InvalidInput(f"condition: {error}") from None
        if query.form is not Form.ONE and query.count != count:
            several = "" if count == 1 else f", or {count}, one for each session"
            raise InvalidInput(f"condition: expected one sequence{several}; got a batch of {query.count}")
        return cls(model, query)

    def bounds(self, count: int, limits: Limits, most: int) -> list[tuple[int, int]]:
        """Splits the sessions: first and last (exclusive) of those whose conditions fit into one request.

        Raises:
            LimitReached: a condition alone does not fit.
        """
        request_limits = RequestLimits.for_predict(limits, self.query.model)
        request_limits = replace(request_limits, rows=min(request_limits.rows, most))
        rows = self._rows(0, count)
        if self.query.rows is None:
            return request_limits.texts_bounds(self.query.texts[row] for row in rows)
        return request_limits.bounds(self.query.rows.steps[rows])

    def request(self, session_ids: Sequence[str], first: int = 0) -> sequence_pb2.OpenSessionsRequest:
        """Returns the request that opens these sessions, the first of which is session number `first`."""
        request = sequence_pb2.OpenSessionsRequest(
            model=self.model.name, version=self.model.version, session_ids=session_ids
        )
        rows = self._rows(first, first + len(session_ids))
        inputs = self.query.rows
        if inputs is None:
            request.encoder_text.rows.extend(self.query.texts[row] for row in rows)
            return request
        request.encoder_lengths = pack_uint32(inputs.steps[rows])
        elements = elements_of(rows, inputs.steps)
        for spec, column in zip(self.query.model.inputs, inputs.columns, strict=True):
            chosen = column[elements if spec.per_step else rows]
            request.encoder_inputs[spec.name].CopyFrom(to_tensor(chosen))
        return request

    def _rows(self, begin: int, end: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        return np.zeros(end - begin, np.intp) if self.query.form is Form.ONE else np.arange(begin, end)
