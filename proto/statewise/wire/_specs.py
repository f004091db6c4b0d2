"""Defines the parts of a model's specification: tensors, states, vocabularies, encoding and generation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.wire._tensors import DTYPES


class Exactness(StrEnum):
    """Whether a row's result depends on how the row was run."""

    EXACT = "exact"
    """Alone or batched, step by step or whole: the same bits."""
    TOLERANCE = "tolerance"
    """The same within rounding."""
    UNSAFE = "unsafe"
    """Results depend on neighbours, or on how a sequence is cut."""


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
    """Optional inputs: the value of every element when a request omits the input."""
    vocabulary_size: int | None = None
    """Token inputs: tokens are numbers from 0 up to this, exclusive."""


@dataclass(frozen=True)
class StatePart:
    """A named section of a state, its elements counted in C order. Requests may name it instead."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class StatePair:
    """A state input, the output that succeeds it, and the initial state of a new session."""

    input: str
    output: str
    dtype: str
    shape: tuple[int, ...]
    """Without the batch axis."""
    batch_axis: int = 0
    initial: float | tuple[float, ...] = 0.0
    """One value for all elements, or one for each element, in C order."""
    parts: tuple[StatePart, ...] = ()

    def initial_state(self) -> NDArray[Any]:
        """Returns the state of a new session, [*shape]."""
        return np.full(self.shape, np.reshape(self.initial, self._initial_shape()), DTYPES[self.dtype])

    def _initial_shape(self) -> tuple[int, ...]:
        return self.shape if isinstance(self.initial, tuple) else ()


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
    """Begin tokens to choose from, by name; empty for models with a single begin token or none."""


@dataclass(frozen=True)
class EncodeSpec:
    """The graph encode.onnx: computes from a sequence the initial state of the other graphs."""

    inputs: tuple[TensorSpec, ...]
    state: tuple[str, ...]
    """The graph's outputs, one for each of `ModelSpec.state`, in that order."""
    lengths: str | None = None
    """As `ModelSpec.lengths`."""
    vocabulary: Vocabulary | None = None
    """Of the text that the encoder reads; `ModelSpec.vocabulary` is that of the generated text."""
    append_end: bool = False
    """Whether the encoder was trained on texts with the vocabulary's end token behind them."""


@dataclass(frozen=True)
class GenerateSpec:
    """Generation: the model emits a value and consumes it as its next input.

    The graph generate.onnx feeds values back; where there is none, the program that runs model.onnx does. The
    graph takes every state input and gives every state output of the model, and takes

        remaining    int32 [B]        values that a row still emits, at least 0

    and where values are `sampled`

        noise        float32 [N, B]   uniform in [0, 1), one for each value; the graph emits at most N values
        temperature  float32 [B]      0: always the likeliest
        top_k        int32 [B]        draw from the k likeliest; 0: from all
        stop         int32 [B]        a value that is emitted and not consumed, and ends its row; -1: none

    A row that has ended keeps its state; its further values are -1 (sampled) or 0.
    """

    emitted: TensorSpec
    """The values, in the graph [N, B, *shape]; N is the number of values of the longest row."""
    input: str
    """The input of model.onnx that consumes the values."""
    sampled: bool = False
    step_limit: int | None = None
    """Number of values after which a row ends, where a request names no number."""
    graph: bool = True
    """Whether the package has a generate.onnx. Without one, model.onnx has one output, whose last value is
    emitted or, where `sampled`, holds the probabilities to draw from."""
