"""Messages to values and back.

No decisions: what does not fit is refused in the words of `statewise.wire`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from statewise.service.base import Array, ServiceError, StepResult
from statewise.service.dataplane import OpenedSession, PredictPart
from statewise.service.engine import Exactness
from statewise.service.registry import LoadedModel, VersionState, VersionStatus
from statewise.service.transport.messages._status import row_error
from statewise.v1 import admin_pb2, model_pb2, sequence_pb2, tensor_pb2
from statewise.wire import (
    CallShape,
    ModelSpec,
    Reason,
    TensorError,
    TensorSpec,
    Vocabulary,
    fill_tensor,
    from_tensor,
    pack_uint32,
    to_tensor,
    unpack_uint32,
    unpack_uint64,
)

_EXACTNESS = {
    Exactness.EXACT: model_pb2.EXACTNESS_EXACT,
    Exactness.TOLERANCE: model_pb2.EXACTNESS_TOLERANCE,
    Exactness.UNSAFE: model_pb2.EXACTNESS_UNSAFE,
}
_STATUS = {
    VersionState.LOADING: model_pb2.MODEL_STATUS_LOADING,
    VersionState.READY: model_pb2.MODEL_STATUS_READY,
    VersionState.FAILED: model_pb2.MODEL_STATUS_FAILED,
    VersionState.UNLOADING: model_pb2.MODEL_STATUS_UNLOADING,
    VersionState.UNLOADED: model_pb2.MODEL_STATUS_UNLOADED,
}
_CALL_SHAPES = {
    CallShape.ONE_TO_ONE: model_pb2.CALL_SHAPE_ONE_TO_ONE,
    CallShape.ONE_TO_MANY: model_pb2.CALL_SHAPE_ONE_TO_MANY,
    CallShape.MANY_TO_ONE: model_pb2.CALL_SHAPE_MANY_TO_ONE,
    CallShape.MANY_TO_MANY: model_pb2.CALL_SHAPE_MANY_TO_MANY,
    CallShape.ENCODER_DECODER: model_pb2.CALL_SHAPE_ENCODER_DECODER,
}


def arrays(tensors: Mapping[str, tensor_pb2.Tensor]) -> dict[str, Array]:
    """Inputs by name, as views of the message. Raises ServiceError (BAD_TENSOR)."""
    result: dict[str, Array] = {}
    for name in tensors:
        try:
            result[name] = from_tensor(tensors[name])
        except TensorError as error:
            raise ServiceError(Reason.BAD_TENSOR, f"input {name!r}: {error}") from None
    return result


def column_uint64(column: bytes, name: str) -> Any:
    """A packed column. Raises ServiceError (BAD_REQUEST)."""
    try:
        return unpack_uint64(column)
    except TensorError as error:
        raise ServiceError(Reason.BAD_REQUEST, f"{name}: {error}") from None


def column_uint32(column: bytes, name: str) -> Any:
    """A packed column. Raises ServiceError (BAD_REQUEST)."""
    try:
        return unpack_uint32(column)
    except TensorError as error:
        raise ServiceError(Reason.BAD_REQUEST, f"{name}: {error}") from None


def fill_step_response(response: sequence_pb2.StepResponse, result: StepResult) -> None:
    """Puts what a step gave into an empty message, in its place: a nested message would be copied into it."""
    for name, array in result.outputs.items():
        fill_tensor(response.outputs[name], array)
    if result.failures:
        response.errors.extend([row_error(failure) for failure in result.failures])


def check_labels(model: LoadedModel) -> None:
    """Raises ServiceError (WRONG_CALL) where a model does not tell declared classes apart."""
    spec = model.package.spec
    sizes = {(len(spec.labels),), (1,)} if len(spec.labels) == 2 else {(len(spec.labels),)}
    if len(spec.outputs) != 1 or spec.outputs[0].per_step or spec.outputs[0].shape not in sizes:
        raise ServiceError(
            Reason.WRONG_CALL, f"model {model.package.name!r} declares no classes: leave return_labels out"
        )


def _labels(spec: ModelSpec, scores: Array) -> list[str]:
    """The best class of each row; of two classes with one score, that is the second's probability."""
    best = scores[:, 0] > 0.5 if scores.shape[1] == 1 else scores.argmax(axis=1)
    return [spec.labels[int(number)] for number in best]


def predict_responses(
    model: LoadedModel, part: PredictPart, *, message_bytes: int, labels: bool
) -> Iterator[sequence_pb2.PredictResponse]:
    """A part of a prediction, as messages that stay below the limit where one row alone does."""
    version = model.package.version
    if part.failures:
        yield sequence_pb2.PredictResponse(errors=[row_error(f) for f in part.failures], version=version)
    spec = model.package.spec
    ends = np.cumsum(part.lengths, dtype=np.int64)
    for rows in _within(part, spec, message_bytes):
        steps = slice(int(ends[rows.start - 1]) if rows.start else 0, int(ends[rows.stop - 1]))
        chosen = [
            array[steps if entry.per_step else rows]
            for array, entry in zip(part.outputs, spec.outputs, strict=True)
        ]
        yield sequence_pb2.PredictResponse(
            rows=pack_uint32(part.rows[rows]),
            lengths=pack_uint32(part.lengths[rows]),
            outputs=_tensors(spec, chosen),
            labels=_labels(spec, chosen[0]) if labels else (),
            version=version,
        )


def session(opened: OpenedSession) -> sequence_pb2.Session:
    """A session as it stands, for who holds it."""
    package, view = opened.model.package, opened.view
    return sequence_pb2.Session(
        session_id=view.session_id,
        handle=view.handle,
        model=package.name,
        version=package.version,
        digest=package.digest,
        epoch=view.epoch,
        position=view.position,
        created=opened.created,
    )


def session_info(opened: OpenedSession) -> admin_pb2.SessionInfo:
    """A session as it stands, for who looks from outside."""
    package, view = opened.model.package, opened.view
    info = admin_pb2.SessionInfo(
        session_id=view.session_id,
        owner=view.owner,
        model=package.name,
        version=package.version,
        position=view.position,
        epoch=view.epoch,
    )
    info.idle.FromNanoseconds(int(view.idle_s * 1e9))
    return info


def model(status: VersionStatus, *, is_default: bool, request_steps: int) -> model_pb2.Model:
    """A version, as it stands."""
    if status.loaded is None:
        return model_pb2.Model(
            name=status.name, version=status.version, status=_STATUS[status.state], failure=status.trouble
        )
    loaded = status.loaded
    package, spec = loaded.package, loaded.package.spec
    message = model_pb2.Model(
        name=package.name,
        version=package.version,
        digest=package.digest,
        status=_STATUS[status.state],
        failure=status.trouble,
        is_default=is_default,
        exactness=_EXACTNESS[loaded.profile.exactness],
        inputs=[_tensor_spec(entry) for entry in spec.inputs],
        outputs=[_tensor_spec(entry) for entry in spec.outputs],
        call_shapes=[_CALL_SHAPES[shape] for shape in spec.call_shapes],
        streamable=spec.streamable,
        generative=spec.generate is not None,
        state_bytes=loaded.arena.bytes_per_session // 2,
        max_steps=1 if spec.call_shapes == (CallShape.ONE_TO_ONE,) else request_steps,
        labels=spec.labels,
        notes=dict(spec.notes),
    )
    if spec.vocabulary is not None:
        message.vocabulary.MergeFrom(_vocabulary(spec.vocabulary))
    if spec.encode is not None:
        message.encoder_inputs.extend(_tensor_spec(entry) for entry in spec.encode.inputs)
        if spec.encode.vocabulary is not None:
            message.encoder_vocabulary.MergeFrom(_vocabulary(spec.encode.vocabulary))
    if spec.generate is not None:
        message.emitted.MergeFrom(_tensor_spec(spec.generate.emitted))
    return message


def _vocabulary(words: Vocabulary) -> model_pb2.Vocabulary:
    return model_pb2.Vocabulary(
        tokens=words.tokens,
        separator=words.separator,
        case_folding=words.case_folding,
        unknown=words.unknown,
        begin=words.begin,
        end=words.end,
        pad=words.pad,
        conditions=dict(words.conditions),
    )


def _tensor_spec(entry: TensorSpec) -> model_pb2.TensorSpec:
    return model_pb2.TensorSpec(
        name=entry.name,
        dtype=tensor_pb2.DataType.Value(f"DATA_TYPE_{entry.dtype.upper()}"),
        shape=entry.shape,
        per_step=entry.per_step,
        default_value=entry.default,
    )


def _tensors(spec: ModelSpec, outputs: Sequence[Array]) -> dict[str, tensor_pb2.Tensor]:
    return {entry.name: to_tensor(array) for entry, array in zip(spec.outputs, outputs, strict=False)}


def _within(part: PredictPart, spec: ModelSpec, message_bytes: int) -> Iterator[slice]:
    """Stretches of the part's rows whose outputs fill at most three quarters of a message, or one row."""
    row_bytes = np.zeros(len(part.rows), np.int64)
    for entry, array in zip(spec.outputs, part.outputs, strict=False):
        element_bytes = array.itemsize * int(np.prod(entry.shape, dtype=np.int64))
        row_bytes += element_bytes * (part.lengths.astype(np.int64) if entry.per_step else 1)
    room = message_bytes * 3 // 4
    begin = 0
    ends = np.cumsum(row_bytes)
    while begin < len(row_bytes):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + room, side="right")))
        yield slice(begin, end)
        begin = end
