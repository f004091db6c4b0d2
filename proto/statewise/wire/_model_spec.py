"""Defines the metadata of a model package: one JSON object under one key of the ONNX file.

Holds only the meaning of the graph's inputs and outputs: neither the graph nor the server's policy.
Everything written can be read back: `ModelSpec.from_json(spec.to_json()) == spec`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Self

from statewise.wire._entries import MetadataError, read_entry
from statewise.wire._specs import CallShape, EncodeSpec, GenerateSpec, StatePair, TensorSpec, Vocabulary
from statewise.wire._toml import read_toml, toml_text

METADATA_KEY = "statewise"
"""Key of the JSON object among an ONNX file's metadata_props."""

_FORMAT = 1


@dataclass(frozen=True)
class ModelSpec:
    """Inputs, outputs and states of a model's graphs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    state: tuple[StatePair, ...]
    """Empty for models without sessions: bidirectional and one-to-one."""
    call_shapes: tuple[CallShape, ...]
    lengths: str | None = None
    """Name of the int32 [B] input of each row's time steps; None: all rows of a run have the same length."""
    labels: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None
    encode: EncodeSpec | None = None
    """None: sessions begin at the initial value of each state."""
    generate: GenerateSpec | None = None
    """None: the model does not generate."""
    least_steps: int = 1
    """The graph runs no shorter sequence, because a layer reads this many steps at a time."""
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

    @property
    def most_steps(self) -> int | None:
        """Time steps of a sequence at most; None: any number."""
        return 1 if self.call_shapes == (CallShape.ONE_TO_ONE,) and not self.state else None

    def to_json(self) -> str:
        """Writes the metadata value."""
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
        """Writes the same as TOML, for the model.toml of a package; absent entries are left out."""
        return toml_text(asdict(self))

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Reads a complete specification from TOML.

        Raises:
            MetadataError: naming the entry, what was expected and what was found.
        """
        try:
            raw = read_toml(text)
        except ValueError as error:
            raise MetadataError(f"no TOML: {error}") from None
        spec: Self = read_entry(cls, raw, "")
        return spec
