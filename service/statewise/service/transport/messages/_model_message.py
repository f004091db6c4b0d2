"""Describes a model version as a message: signature, call shapes, vocabulary, status."""

from statewise.service.registry import LoadedModel, VersionState, VersionStatus
from statewise.v1 import model_pb2, tensor_pb2
from statewise.wire import CallShape, Exactness, StatePair, TensorSpec, Vocabulary

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


def model_message(status: VersionStatus, *, is_default: bool, request_steps: int) -> model_pb2.Model:
    """Returns a version; one that is not in memory has only name, status and failure.

    Args:
        status: The version's state, and the version itself where it is in memory.
        is_default: Whether requests without a version get this one.
        request_steps: Time steps of one request at most.
    """
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
        streamable=not loaded.why_no_sessions,
        generative=spec.generate is not None,
        state_bytes=loaded.state_bytes,
        max_steps=spec.most_steps or request_steps,
        least_steps=spec.least_steps,
        labels=spec.labels,
        notes=_notes(loaded),
        states=[_state_spec(pair) for pair in loaded.arena.pairs],
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


def _notes(loaded: LoadedModel) -> dict[str, str]:
    notes = dict(loaded.package.spec.notes)
    if loaded.package.spec.streamable and loaded.why_no_sessions:
        notes["sessions"] = f"none: {loaded.why_no_sessions}"
    return notes


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


def _state_spec(pair: StatePair) -> model_pb2.StateSpec:
    return model_pb2.StateSpec(
        name=pair.input,
        dtype=tensor_pb2.DataType.Value(f"DATA_TYPE_{pair.dtype.upper()}"),
        shape=pair.shape,
        parts=[
            model_pb2.StatePart(name=part.name, offset=part.offset, size=part.size) for part in pair.parts
        ],
    )


def _tensor_spec(entry: TensorSpec) -> model_pb2.TensorSpec:
    return model_pb2.TensorSpec(
        name=entry.name,
        dtype=tensor_pb2.DataType.Value(f"DATA_TYPE_{entry.dtype.upper()}"),
        shape=entry.shape,
        per_step=entry.per_step,
        default_value=entry.default,
    )
