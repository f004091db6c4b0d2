"""Reads the server's descriptions of itself, its models and its sessions into plain values.

The values hold no messages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import itemgetter
from typing import Literal

from statewise.client.values._state_info import StateInfo, read_state_spec
from statewise.v1 import admin_pb2, model_pb2, tensor_pb2
from statewise.wire import CallShape, Vocabulary

SessionState = Literal["awake", "asleep"]
"""Where a session is: in the server's memory, or in its store alone."""


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a model, described for one sample."""

    name: str
    dtype: str
    """NumPy's name: "float32", "int64"."""
    shape: tuple[int, ...]
    """At one time step, without batch and time: (12,) for 12 features, () for a token."""
    per_step: bool
    """Whether there is one value for every time step (True) or one for the whole sequence."""
    default: float | None = None
    """Optional inputs: the value of every element if the input is left out."""


@dataclass(frozen=True)
class ModelInfo:
    """A model version: its inputs, outputs and state."""

    name: str
    version: int
    digest: str
    """sha256 of the version's files, in hexadecimal."""
    status: str
    """"loading", "ready", "failed", "unloading" or "unloaded"."""
    failure: str
    """Why the version could not be loaded; empty otherwise."""
    is_default: bool
    exactness: str
    """"exact", "tolerance" or "unsafe" as found on the serving machine; "unspecified" when not loaded."""
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    call_shapes: tuple[CallShape, ...]
    streamable: bool
    """Whether sessions can be opened."""
    state_bytes: int
    """Size of one session's state."""
    labels: tuple[str, ...]
    vocabulary: Vocabulary | None
    generative: bool
    max_steps: int
    """Longest sequence of one predict row in time steps; 0: the version is not loaded."""
    notes: Mapping[str, str]
    encoder_inputs: tuple[TensorInfo, ...] = ()
    """Encoder-decoder models: the encoder's inputs; `inputs` are the decoder's."""
    encoder_vocabulary: Vocabulary | None = None
    """Of the encoder's text; `vocabulary` is the decoder's."""
    emitted: TensorInfo | None = None
    """The value that `generate` emits at each time step; None: the model does not generate."""
    least_steps: int = 1
    """Fewest time steps of a row of `predict` or of a step; 0: the version is not loaded."""
    states: tuple[StateInfo, ...] = ()
    """What a session keeps from step to step; empty: nothing, or the server is older than this field."""

    @property
    def predicted(self) -> "ModelInfo":
        """The model as `predict` uses it: an encoder-decoder reads the encoder's inputs and emits values."""
        if not self.encoder_inputs or self.emitted is None:
            return self
        return replace(
            self,
            inputs=self.encoder_inputs,
            outputs=(self.emitted,),
            vocabulary=self.encoder_vocabulary,
            encoder_inputs=(),
        )

    @property
    def encoder(self) -> "ModelInfo":
        """The model as its encoder reads a condition: one sequence, or one sample if it has no time axis."""
        return replace(
            self, inputs=self.encoder_inputs, vocabulary=self.encoder_vocabulary, encoder_inputs=()
        )

    @property
    def timed(self) -> bool:
        """Whether any input has a value for every time step (False: one-to-one)."""
        return any(spec.per_step for spec in self.inputs)


@dataclass(frozen=True)
class Limits:
    """The limits of a server."""

    message_bytes: int
    request_rows: int
    request_steps: int
    sessions: int
    state_bytes: int
    queue_steps: int
    stream_requests: int
    idle_timeout_s: float


@dataclass(frozen=True)
class ServerInfo:
    """A running server."""

    version: str
    onnxruntime_version: str
    limits: Limits
    store: str
    """Kind of session store: "none", "sqlite" or "redis"."""
    started_at: datetime
    draining: bool


@dataclass(frozen=True)
class SessionInfo:
    """A session, as `list_sessions` describes it."""

    id: str
    owner: str
    model: str
    version: int
    position: int
    """Time steps consumed."""
    durable_position: int
    """Time steps that are safe if the server is killed."""
    epoch: int
    idle_s: float
    nonfinite_state: bool = False
    """Whether its state holds a NaN or an infinite number; most models then give outputs of no use. The
    state of a session that is asleep is not looked at."""
    state: SessionState = "awake"
    """Whether it is in the server's memory ("awake"), or in its store alone ("asleep"): it wakes when it is
    used."""
    damaged: bool = False
    """Whether the store cannot give it back (SessionLost); other fields may then be empty."""
    keep: int = 1
    """The number of its last requests that can be taken back."""
    checkpoint_bytes: int = 0
    """Bytes that its named checkpoints take; 0 while it is asleep, where they are not looked at."""


def read_model(model: model_pb2.Model) -> ModelInfo:
    """Reads a model's description."""
    return ModelInfo(
        name=model.name,
        version=model.version,
        digest=model.digest,
        status=_word(model_pb2.ModelStatus.Name(model.status), "MODEL_STATUS_"),
        failure=model.failure,
        is_default=model.is_default,
        exactness=_word(model_pb2.Exactness.Name(model.exactness), "EXACTNESS_"),
        inputs=tuple(_tensor(spec) for spec in model.inputs),
        outputs=tuple(_tensor(spec) for spec in model.outputs),
        call_shapes=tuple(
            CallShape(_word(model_pb2.CallShape.Name(shape), "CALL_SHAPE_")) for shape in model.call_shapes
        ),
        streamable=model.streamable,
        state_bytes=model.state_bytes,
        labels=tuple(model.labels),
        vocabulary=_vocabulary(model.vocabulary) if model.HasField("vocabulary") else None,
        generative=model.generative,
        max_steps=model.max_steps,
        notes=dict(model.notes),
        encoder_inputs=tuple(_tensor(spec) for spec in model.encoder_inputs),
        encoder_vocabulary=(
            _vocabulary(model.encoder_vocabulary) if model.HasField("encoder_vocabulary") else None
        ),
        emitted=_tensor(model.emitted) if model.HasField("emitted") else None,
        least_steps=model.least_steps,
        states=tuple(map(read_state_spec, model.states)),
    )


def read_server(server: admin_pb2.GetServerResponse) -> ServerInfo:
    """Reads a server's description."""
    return ServerInfo(
        version=server.version,
        onnxruntime_version=server.onnxruntime_version,
        limits=Limits(
            message_bytes=server.limits.message_bytes,
            request_rows=server.limits.request_rows,
            request_steps=server.limits.request_steps,
            sessions=server.limits.sessions,
            state_bytes=server.limits.state_bytes,
            queue_steps=server.limits.queue_steps,
            stream_requests=server.limits.stream_requests,
            idle_timeout_s=server.limits.idle_timeout.ToTimedelta().total_seconds(),
        ),
        store=server.store,
        started_at=server.started_at.ToDatetime(tzinfo=UTC),
        draining=server.draining,
    )


def read_session(session: admin_pb2.SessionInfo) -> SessionInfo:
    """Reads a session's description."""
    return SessionInfo(
        id=session.session_id,
        owner=session.owner,
        model=session.model,
        version=session.version,
        position=session.position,
        durable_position=session.durable_position,
        epoch=session.epoch,
        idle_s=session.idle.ToTimedelta().total_seconds(),
        nonfinite_state=session.nonfinite_state,
        state="asleep" if session.state == admin_pb2.SESSION_STATE_ASLEEP else "awake",
        damaged=session.damaged,
        keep=session.keep or 1,
        checkpoint_bytes=session.checkpoint_bytes,
    )


def _tensor(spec: model_pb2.TensorSpec) -> TensorInfo:
    return TensorInfo(
        name=spec.name,
        dtype=_word(tensor_pb2.DataType.Name(spec.dtype), "DATA_TYPE_"),
        shape=tuple(spec.shape),
        per_step=spec.per_step,
        default=spec.default_value if spec.HasField("default_value") else None,
    )


def _vocabulary(vocabulary: model_pb2.Vocabulary) -> Vocabulary:
    def optional(field: str) -> int | None:
        return getattr(vocabulary, field) if vocabulary.HasField(field) else None  # type: ignore[arg-type]

    return Vocabulary(
        tokens=tuple(vocabulary.tokens),
        separator=vocabulary.separator,
        case_folding=vocabulary.case_folding,
        unknown=optional("unknown"),
        begin=optional("begin"),
        end=optional("end"),
        pad=optional("pad"),
        conditions=dict(sorted(vocabulary.conditions.items(), key=itemgetter(1))),
    )


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()
