"""The metadata that makes a model package self-describing: one JSON object under one key of the ONNX file.

Not the graph itself and not the server's policy: only what the graph's inputs and outputs mean. Everything
written can be read back: `ModelSpec.from_json(spec.to_json()) == spec`.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from enum import StrEnum
from functools import cached_property
from types import NoneType, UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

from statewise.wire._tensors import DTYPES

METADATA_KEY = "statewise"
"""Key of the JSON object among an ONNX file's metadata_props."""

_FORMAT = 1


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
    """Generation: a value is emitted, and consumed as the next input.

    The graph generate.onnx does it, or, where there is none, whoever runs model.onnx feeds its output back.
    The graph takes every state input and gives every state output of the model, and takes

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
    graph: bool = True
    """Whether there is a generate.onnx. Without one the last output, model.onnx's only one, is emitted, or,
    where `sampled`, holds the probabilities of the values to draw from."""


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

    @cached_property
    def input_names(self) -> frozenset[str]:
        """Names of the inputs."""
        return frozenset(entry.name for entry in self.inputs)

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
        except (ValueError, RecursionError) as error:
            raise MetadataError(f"the metadata under {METADATA_KEY!r} is no JSON: {error}") from None
        if not isinstance(raw, dict):
            raise MetadataError(f"expected a JSON object under {METADATA_KEY!r}; got {type(raw).__name__}")
        if raw.pop("format", None) != _FORMAT:
            raise MetadataError(f"expected metadata of format {_FORMAT}")
        spec: Self = read_entry(cls, raw, "")
        return spec

    def to_toml(self) -> str:
        """The same as TOML, for the model.toml of a package; what is absent is left out."""
        entries = {key: value for key, value in asdict(self).items() if value not in (None, {})}
        lines = [f"{key} = {_toml(value)}" for key, value in entries.items() if not _tables(value)]
        for key, value in entries.items():
            for table in _tables(value):
                lines += ["", f"[[{key}]]" if isinstance(value, tuple) else f"[{key}]"]
                lines += [f"{_toml_key(k)} = {_toml(v)}" for k, v in table.items() if v is not None]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Reads what `to_toml` wrote, or a person.

        Raises:
            MetadataError: naming the entry, what was expected and what was found.
        """
        try:
            raw = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise MetadataError(f"no TOML: {error}") from None
        spec: Self = read_entry(cls, raw, "")
        return spec


def read_entry(kind: Any, raw: Any, where: str) -> Any:
    """What JSON or TOML holds at `where` ("inputs[0].shape") as a value of the annotated kind.

    Raises:
        MetadataError: naming the entry, what was expected and what was found.
    """
    if is_dataclass(kind):
        return _read_object(kind, raw, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        kinds = [argument for argument in arguments if argument is not NoneType]
        if raw is None and len(kinds) < len(arguments):
            return None
        if len(kinds) == 1:
            return read_entry(kinds[0], raw, where)
        if type(raw) in kinds:
            return raw
        raise MetadataError(f"{where}: expected {' or '.join(_WORDS[one] for one in kinds)}; got {raw!r}")
    if origin is tuple and isinstance(raw, list):
        return tuple(read_entry(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(raw))
    if origin is Mapping and isinstance(raw, dict):
        return {key: read_entry(arguments[1], value, f"{where}.{key}") for key, value in raw.items()}
    if kind is float and type(raw) is int and abs(raw) <= 2**53:
        return float(raw)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        if raw in list(kind):
            return kind(raw)
        raise MetadataError(f"{where}: expected one of {', '.join(kind)}; got {raw!r}")
    if type(raw) is kind:  # not isinstance: true is no integer
        return raw
    raise MetadataError(f"{where}: expected {_WORDS.get(origin or kind, kind)}; got {raw!r}")


_WORDS: Mapping[Any, str] = {
    tuple: "a list",
    Mapping: "an object",
    str: "text",
    bool: "true or false",
    int: "an integer",
    float: "a number",
}


def _read_object(cls: Any, raw: Any, where: str) -> Any:
    prefix = where and f"{where}."
    if not isinstance(raw, dict):
        raise MetadataError(f"{where}: expected an object; got {raw!r}")
    kinds = get_type_hints(cls)
    for name in sorted(raw.keys() - kinds.keys()):
        raise MetadataError(f"{prefix}{name}: no entry of that name is known")
    for entry in fields(cls):
        required = entry.default is MISSING and entry.default_factory is MISSING
        if required and entry.name not in raw:
            raise MetadataError(f"{prefix}{entry.name}: expected this entry; it is absent")
    value = cls(**{name: read_entry(kinds[name], entry, f"{prefix}{name}") for name, entry in raw.items()})
    _check(value, prefix)
    return value


def _check(value: Any, prefix: str) -> None:
    """What types cannot say: known element types, sizes, and numbers that point into something."""
    if isinstance(value, TensorSpec | StatePair):
        if value.dtype not in DTYPES:
            raise MetadataError(f"{prefix}dtype: expected one of {', '.join(DTYPES)}; got {value.dtype!r}")
        if any(size < 1 for size in value.shape):
            raise MetadataError(f"{prefix}shape: expected positive integers; got {list(value.shape)}")
    if isinstance(value, StatePair) and not 0 <= value.batch_axis <= len(value.shape):
        axes = len(value.shape)
        raise MetadataError(f"{prefix}batch_axis: expected 0 to {axes}; got {value.batch_axis}")
    if isinstance(value, Vocabulary):
        numbers = {name: getattr(value, name) for name in ("unknown", "begin", "end", "pad")}
        numbers |= {f"conditions.{name}": number for name, number in value.conditions.items()}
        for name, number in numbers.items():
            if number is not None and not 0 <= number < len(value.tokens):
                raise MetadataError(
                    f"{prefix}{name}: expected a token below {len(value.tokens)}; got {number}"
                )


def _tables(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The objects that an entry holds, one or several; none where it holds something else."""
    entries = value if isinstance(value, tuple) else (value,)
    return entries if entries and all(isinstance(entry, dict) for entry in entries) else ()


def _toml(value: Any) -> str:
    """A value on one line. JSON's texts and numbers are TOML's too, its objects nearly."""
    if isinstance(value, dict):
        entries = [f"{_toml_key(k)} = {_toml(v)}" for k, v in value.items() if v is not None]
        return f"{{{', '.join(entries)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float):
        return repr(value)  # inf, where JSON has Infinity
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_key(key: str) -> str:
    plain = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if plain else _toml(key)
