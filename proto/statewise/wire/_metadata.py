"""The metadata that makes a model package self-describing: one JSON object under one key of the ONNX file.

Not the graph itself and not the server's policy: only what the graph's inputs and outputs mean. Everything
written can be read back: `ModelSpec.from_json(spec.to_json()) == spec`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self, TypeVar

from statewise.wire._tensors import DTYPES

METADATA_KEY = "statewise"
"""Key of the JSON object among an ONNX file's metadata_props."""

_FORMAT = 1
_T = TypeVar("_T")


class MetadataError(ValueError):
    """Metadata that is absent, of another format, or not of the form described here."""


class CallShape(StrEnum):
    """How inputs relate to outputs in time."""

    ONE_TO_ONE = "one_to_one"
    ONE_TO_MANY = "one_to_many"
    MANY_TO_ONE = "many_to_one"
    MANY_TO_MANY = "many_to_many"
    ENCODER_DECODER = "encoder_decoder"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output, as one sample sees it.

    In the graph a per-step tensor is [T, B, *shape], any other [B, *shape].
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    """Without batch and time: (12,) for 12 features, () for a token."""
    per_step: bool = True
    """One value for every time step, or one for the whole sequence."""
    default: float | None = None
    """Optional inputs: taken for every element when the input is left out."""
    vocabulary_size: int | None = None
    """Token inputs: numbers from 0 up to this, exclusive, are valid."""


@dataclass(frozen=True)
class StatePart:
    """A named stretch of a state vector, for people who look into it."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class StatePair:
    """A state input, the output that holds its successor, and where a new session begins."""

    input: str
    output: str
    dtype: str
    shape: tuple[int, ...]
    """Without the batch axis."""
    batch_axis: int = 0
    initial: float = 0.0
    parts: tuple[StatePart, ...] = ()


@dataclass(frozen=True)
class Vocabulary:
    """Tokens of a text model in order of their numbers, and how text becomes tokens."""

    tokens: tuple[str, ...]
    separator: str = ""
    case_folding: str = ""
    unknown: int | None = None
    begin: int | None = None
    end: int | None = None
    pad: int | None = None
    conditions: Mapping[str, int] = field(default_factory=dict)
    """Begin tokens to choose from, by name; empty where `begin` is the only one, or there is none."""


@dataclass(frozen=True)
class EncodeSpec:
    """The graph encode.onnx: a sequence to the state that the other graphs start from."""

    inputs: tuple[TensorSpec, ...]
    state: tuple[str, ...]
    """Its outputs, one for each of `ModelSpec.state`, in that order."""
    lengths: str | None = None
    """As `ModelSpec.lengths`."""
    vocabulary: Vocabulary | None = None
    """Of what it reads; `ModelSpec.vocabulary` is that of what is written."""


@dataclass(frozen=True)
class GenerateSpec:
    """The graph generate.onnx: emits from a state, and consumes what it emitted.

    It takes every state input and gives every state output of the model, and takes

        remaining    int32 [B]        values that a row still emits, at least 0

    and where values are `sampled`

        noise        float32 [N, B]   uniform in [0, 1), one for each value; no more than N are emitted
        temperature  float32 [B]      0: always the likeliest
        top_k        int32 [B]        draw from the k likeliest; 0: from all
        stop         int32 [B]        this value is emitted and not consumed, and ends its row; -1: none

    A row that has ended keeps its state; in place of further values it has -1 (sampled) or 0.
    """

    emitted: TensorSpec
    """The values, in the graph [N, B, *shape], no longer than the row that went on for longest."""
    input: str
    """The input of model.onnx whose values these are."""
    sampled: bool = False
    step_limit: int | None = None
    """Values after which a row that has not ended is given up, where a request names no number."""


@dataclass(frozen=True)
class ModelSpec:
    """What a graph takes, gives and keeps."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    state: tuple[StatePair, ...]
    """Empty for models without sessions: bidirectional and one-to-one."""
    call_shapes: tuple[CallShape, ...]
    lengths: str | None = None
    """Name of the int32 [B] input of each row's time steps; None: rows of a run must be equally long."""
    labels: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None
    encode: EncodeSpec | None = None
    """None: sessions begin at the initial value of each state."""
    generate: GenerateSpec | None = None
    """None: the package has no graph that feeds outputs back."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Where the model comes from: recipe, seed, measured accuracy. Informative only."""

    @property
    def streamable(self) -> bool:
        """Whether sessions can be opened."""
        return bool(self.state)

    def to_json(self) -> str:
        """The metadata value."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads a metadata value.

        Raises:
            MetadataError: naming the entry, what was expected and what was found.
        """
        try:
            raw = json.loads(text)
        except json.JSONDecodeError as error:
            raise MetadataError(f"the metadata under {METADATA_KEY!r} is no JSON: {error}") from None
        if not isinstance(raw, dict):
            raise MetadataError(f"expected a JSON object under {METADATA_KEY!r}; got {type(raw).__name__}")
        if raw.pop("format", None) != _FORMAT:
            raise MetadataError(f"expected metadata of format {_FORMAT}")
        try:
            values = {
                **raw,
                "inputs": tuple(_tensor(entry) for entry in raw["inputs"]),
                "outputs": tuple(_tensor(entry) for entry in raw["outputs"]),
                "state": tuple(_state(entry) for entry in raw["state"]),
                "call_shapes": tuple(CallShape(shape) for shape in raw["call_shapes"]),
                "labels": tuple(raw.get("labels", ())),
                "vocabulary": _vocabulary(raw.get("vocabulary")),
                "encode": _encode(raw.get("encode")),
                "generate": _generate(raw.get("generate")),
            }
            return _build(cls, values)
        except (KeyError, TypeError, ValueError) as error:
            raise MetadataError(f"metadata not understood: {error}") from None


def _build(cls: type[_T], values: Mapping[str, Any]) -> _T:
    unknown = set(values) - {entry.name for entry in fields(cls)}  # type: ignore[arg-type]
    if unknown:
        raise MetadataError(f"{cls.__name__} has no entry {sorted(unknown)[0]!r}")
    return cls(**values)


def _shape(raw: Any) -> tuple[int, ...]:
    if not all(isinstance(size, int) and size > 0 for size in raw):
        raise MetadataError(f"expected a shape of positive integers; got {raw!r}")
    return tuple(raw)


def _dtype(raw: Any) -> str:
    if raw not in DTYPES:
        raise MetadataError(f"expected a dtype of {', '.join(DTYPES)}; got {raw!r}")
    return str(raw)


def _tensor(raw: Mapping[str, Any]) -> TensorSpec:
    return _build(TensorSpec, {**raw, "shape": _shape(raw["shape"]), "dtype": _dtype(raw["dtype"])})


def _state(raw: Mapping[str, Any]) -> StatePair:
    parts = tuple(_build(StatePart, part) for part in raw.get("parts", ()))
    checked = {"shape": _shape(raw["shape"]), "dtype": _dtype(raw["dtype"]), "parts": parts}
    return _build(StatePair, {**raw, **checked})


def _vocabulary(raw: Mapping[str, Any] | None) -> Vocabulary | None:
    return None if raw is None else _build(Vocabulary, {**raw, "tokens": tuple(raw["tokens"])})


def _encode(raw: Mapping[str, Any] | None) -> EncodeSpec | None:
    if raw is None:
        return None
    parts = {
        "inputs": tuple(_tensor(entry) for entry in raw["inputs"]),
        "state": tuple(raw["state"]),
        "vocabulary": _vocabulary(raw.get("vocabulary")),
    }
    return _build(EncodeSpec, {**raw, **parts})


def _generate(raw: Mapping[str, Any] | None) -> GenerateSpec | None:
    return None if raw is None else _build(GenerateSpec, {**raw, "emitted": _tensor(raw["emitted"])})
