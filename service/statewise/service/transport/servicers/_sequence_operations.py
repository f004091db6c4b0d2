"""Predicts whole sequences and generates without sessions, by calls of the dataplane.

Converts request and results, and counts the request. A ServiceError passes through as it is.
"""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from statewise.service.auth import caller
from statewise.service.base import ServiceError
from statewise.service.dataplane import (
    CancellationToken,
    Dataplane,
    GeneratedPart,
    Generator,
    PredictPart,
    given_states,
    parts_within,
    predict_texts,
)
from statewise.service.registry import LoadedModel
from statewise.service.transport.messages import (
    generate_response,
    predict_responses,
    read_arrays,
    read_deadline_s,
    read_sampling,
    read_sequences,
    read_start,
    read_text,
    read_uint32,
    transduced_response,
)
from statewise.service.transport.servicers._request_counts import RequestCount
from statewise.v1 import sequence_pb2
from statewise.wire import Reason


class SequenceOperations:
    """Operations without sessions, one method each, for the caller of the running task.

    Args:
        dataplane: The server's behaviour.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._generator = Generator(dataplane)
        self._message_bytes = dataplane.limits.settings.message_bytes
        self._part_bytes = self._message_bytes * 3 // 4

    async def predict(
        self, request: sequence_pb2.PredictRequest, *, remaining_s: float | None
    ) -> AsyncGenerator[sequence_pb2.PredictResponse]:
        """Returns outputs of rows as buckets of rows finish, or what an encoder-decoder emits as rows end."""
        with RequestCount(self._dataplane.statistics, "predict"):
            model = self._dataplane.models.find(request.model, request.version)
            if request.return_labels:
                _check_labels(model)
            deadline_s = read_deadline_s(request, clock=self._dataplane.clock, remaining_s=remaining_s)
            parts = self._parts(model, request, deadline_s)
            async with aclosing(parts):
                async for part in parts:
                    for response in self._responses(model, request, part):
                        yield response

    async def generate(
        self, request: sequence_pb2.GenerateRequest, *, remaining_s: float | None
    ) -> AsyncGenerator[sequence_pb2.GenerateResponse]:
        """Yields what rows emit, as they emit it; the last response is `done`."""
        with RequestCount(self._dataplane.statistics, "generate"):
            cancellation = CancellationToken(
                read_deadline_s(request, clock=self._dataplane.clock, remaining_s=remaining_s)
            )
            model = self._dataplane.models.find(request.model, request.version)
            start = read_start(request)
            self._dataplane.limits.check_size(start.rows, None)
            steps = read_uint32(request.steps, "steps")
            steps = model.require_generator().step_limits(steps, start.rows)
            sampling = read_sampling(request.sampling, start.rows)
            generated = self._generator.generate(
                model, start, steps, sampling, cancellation, owner=caller().owner
            )
            rows_left = start.rows
            async with aclosing(generated) as parts:
                async for whole in parts:
                    for part in parts_within(whole, self._part_bytes):
                        rows_left -= part.rows_ended + len(part.failures)
                        response = generate_response(part)
                        response.done = rows_left == 0
                        response.resumed = start.emitted_lengths is not None
                        yield response

    def _parts(
        self, model: LoadedModel, request: sequence_pb2.PredictRequest, deadline_s: float | None
    ) -> AsyncGenerator[PredictPart] | AsyncGenerator[GeneratedPart]:
        owner = caller().owner
        text = read_text(request.text, present=request.HasField("text"))
        state = read_arrays(request.state, "state")
        if model.auxiliary.encoder is not None:
            if state:
                raise ServiceError(
                    Reason.WRONG_CALL,
                    f"the encoder of model {model.package.name!r} computes the state: leave the state out, "
                    "or use Generate",
                )
            raw = read_sequences(request.inputs, request.lengths, text)
            return self._generator.transduce(model, raw, CancellationToken(deadline_s), owner=owner)
        if text is not None:
            self._dataplane.limits.check_size(len(text), None)
            given = given_states(model, state, rows=len(text))
            return predict_texts(
                self._dataplane, model, text, owner=owner, deadline_s=deadline_s, given=given
            )
        lengths = read_uint32(request.lengths, "lengths")
        self._dataplane.limits.check_size(len(lengths), None)
        given = given_states(model, state, rows=len(lengths))
        inputs = read_arrays(request.inputs)
        return self._dataplane.predict(
            model, lengths, inputs, owner=owner, deadline_s=deadline_s, given=given
        )

    def _responses(
        self, model: LoadedModel, request: sequence_pb2.PredictRequest, part: PredictPart | GeneratedPart
    ) -> Iterator[sequence_pb2.PredictResponse]:
        if isinstance(part, PredictPart):
            return predict_responses(
                model, part, message_bytes=self._message_bytes, labels=request.return_labels
            )
        version = model.package.version
        return (transduced_response(one, version=version) for one in parts_within(part, self._part_bytes))


def _check_labels(model: LoadedModel) -> None:
    """Raises ServiceError (WRONG_CALL) for a model whose output does not score its declared classes."""
    spec = model.package.spec
    sizes = {(len(spec.labels),), (1,)} if len(spec.labels) == 2 else {(len(spec.labels),)}
    if len(spec.outputs) != 1 or spec.outputs[0].per_step or spec.outputs[0].shape not in sizes:
        raise ServiceError(
            Reason.WRONG_CALL, f"model {model.package.name!r} declares no classes: leave return_labels out"
        )
