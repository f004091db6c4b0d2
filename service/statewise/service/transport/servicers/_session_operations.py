"""The calls that read or write text and generate: convert, call, convert."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from statewise.service.base import Array, ServiceError
from statewise.service.dataplane import (
    CancellationToken,
    Dataplane,
    Generator,
    SessionGenerator,
    parts_within,
    predict_texts,
)
from statewise.service.registry import LoadedModel
from statewise.service.transport.messages import _requests as _generation
from statewise.service.transport.messages import _responses as convert
from statewise.v1 import sequence_pb2


class SessionOperations:
    """Predicting of texts and by encoder-decoders, generating, and encoding to begin sessions with.

    Args:
        dataplane: The server's behaviour.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._generator = Generator(dataplane)
        self._sessions = SessionGenerator(dataplane)
        self._limit_bytes = dataplane.limits.settings.message_bytes * 3 // 4

    async def predict(
        self,
        model: LoadedModel,
        request: sequence_pb2.PredictRequest,
        deadline_s: float | None,
        *,
        owner: str,
    ) -> AsyncGenerator[sequence_pb2.PredictResponse]:
        """Rows as they end: outputs, or what an encoder-decoder says."""
        texts = _generation.text_rows(request.text, present=request.HasField("text"))
        if model.auxiliary.encoder is not None:
            given = _generation.given(request.inputs, request.lengths, texts)
            ticket = CancellationToken(deadline_s)
            async with aclosing(self._generator.transduce(model, given, ticket, owner=owner)) as said:
                async for whole in said:
                    for part in parts_within(whole, self._limit_bytes):
                        yield _generation.predict_response(part, version=model.package.version)
            return
        if texts is not None:
            predicted = predict_texts(self._dataplane, model, texts, owner=owner, deadline_s=deadline_s)
        else:
            lengths = convert.column_uint32(request.lengths, "lengths")
            inputs = convert.arrays(request.inputs)
            predicted = self._dataplane.predict(model, lengths, inputs, owner=owner, deadline_s=deadline_s)
        async with aclosing(predicted) as parts:
            async for rows in parts:
                for response in convert.predict_responses(
                    model,
                    rows,
                    message_bytes=self._dataplane.limits.settings.message_bytes,
                    labels=request.return_labels,
                ):
                    yield response

    async def generate(
        self, request: sequence_pb2.GenerateRequest, ticket: CancellationToken, *, owner: str
    ) -> AsyncGenerator[sequence_pb2.GenerateResponse]:
        """Pieces of rows as they grow; the last is `done`."""
        model = self._dataplane.models.find(request.model, request.version)
        start = _generation.start(request)
        self._dataplane.limits.check_size(start.rows, None)
        steps = convert.column_uint32(request.steps, "steps")
        steps = model.require_generator().steps(steps, start.rows)
        sampling = _generation.sampling(request.sampling, start.rows)
        parts = self._generator.generate(model, start, steps, sampling, ticket, owner=owner)
        left = start.rows
        async with aclosing(parts) as grown:
            async for whole in grown:
                for part in parts_within(whole, self._limit_bytes):
                    left -= part.ended + len(part.failures)
                    response = _generation.generate_response(part)
                    response.done = left == 0
                    yield response

    async def generate_sessions(
        self, request: sequence_pb2.GenerateSessionsRequest, ticket: CancellationToken, *, owner: str
    ) -> AsyncGenerator[sequence_pb2.GenerateSessionsResponse]:
        """Pieces of rows as they grow; with the last, `done`, they have been applied."""
        parts = self._sessions.generate(
            convert.column_uint64(request.handles, "handles"),
            convert.column_uint64(request.positions, "positions"),
            convert.column_uint32(request.steps, "steps"),
            lambda rows: _generation.sampling(request.sampling, rows),
            ticket,
            owner=owner,
        )
        async with aclosing(parts) as grown:
            async for whole in grown:
                for part in parts_within(whole, self._limit_bytes):
                    yield _generation.sessions_response(part)
        yield sequence_pb2.GenerateSessionsResponse(done=True)

    async def beginnings(self, request: sequence_pb2.OpenSessionsRequest) -> "Beginnings | None":
        """The states that sessions begin in; None: the model's initial one.

        Raises:
            ServiceError: MODEL_NOT_FOUND, WRONG_CALL, BAD_TENSOR, BAD_REQUEST, QUEUE_FULL.
        """
        model = self._dataplane.models.find(request.model, request.version)
        texts = _generation.text_rows(request.encoder_text, present=request.HasField("encoder_text"))
        given = _generation.given(request.encoder_inputs, request.encoder_lengths, texts)
        if not given and model.auxiliary.encoder is None:
            return None
        rows = len(request.session_ids)
        state, failures = await self._generator.encode(model, given, rows, CancellationToken())
        return Beginnings(state, failures)


class Beginnings:
    """States that sessions begin in, by row of the request.

    Args:
        state: [rows, ...] for each state.
        failures: Rows that have none.
    """

    def __init__(self, state: Sequence[Array], failures: dict[int, Any]) -> None:
        self._state = state
        self._failures = failures

    def __call__(self, row: int) -> list[Array]:
        """The state of a row. Raises ServiceError where it has none."""
        failure = self._failures.get(row)
        if failure is not None:
            raise ServiceError(failure.reason, failure.message)
        return [array[row] for array in self._state]
