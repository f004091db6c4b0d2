"""What rows read before they write: sequences, texts, conditions and begin tokens as one sequence a row.

Pure. A row that cannot be read is noted and leaves the others alone; tensors that fit no row are refused as a
whole, in the words of `inputs`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, ServiceError, starts_of
from statewise.service.inputs._text import Codec, TextError
from statewise.service.inputs._validation import arrange_inputs, invalid_rows
from statewise.wire import DTYPES, ModelSpec, Reason, TensorSpec

Lengths = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class RawSequences:
    """Sequences as they were sent: tensors or texts, or neither.

    Attributes:
        inputs: By name: per-step [sum(lengths), ...], others [rows, ...].
        lengths: Time steps of each row; None: not told.
        text: A text a row; None: no texts.
    """

    inputs: Mapping[str, Array] = field(default_factory=dict)
    lengths: Lengths | None = None
    text: Sequence[str] | None = None

    def __bool__(self) -> bool:
        return bool(self.inputs) or self.lengths is not None or self.text is not None


@dataclass(frozen=True, slots=True)
class TokenizedSequences:
    """Rows that a model can read.

    Attributes:
        lengths: Time steps of each row, uint32; 0: nothing to read.
        inputs: In the spec's order: per-step [sum(lengths), ...], others [rows, ...].
        failures: Why rows cannot be read; those have no time steps or are not to be run.
    """

    lengths: Lengths
    inputs: list[Array]
    failures: dict[int, str]

    @property
    def time_steps(self) -> int:
        """Of all rows."""
        return int(self.lengths.sum(dtype=np.int64))


def tokenize_sequences(
    spec: ModelSpec, codec: Codec | None, raw: RawSequences, *, rows: int, begin: bool = False
) -> TokenizedSequences:
    """Sequences, each of them as long as was sent.

    Args:
        spec: What reads them.
        codec: Of its text.
        raw: What was sent; texts are of the first token input.
        rows: How many.
        begin: Whether texts get the begin token, where the vocabulary has one.

    Raises:
        ServiceError: BAD_TENSOR, BAD_REQUEST; WRONG_CALL for texts without a vocabulary.
    """
    if raw.text is None:
        lengths = np.zeros(rows, np.uint32) if raw.lengths is None else raw.lengths
        if len(lengths) != rows:
            raise ServiceError(Reason.BAD_REQUEST, f"expected {rows} lengths; got {len(lengths)}")
        time_steps = int(lengths.sum(dtype=np.int64))
        arranged = arrange_inputs(spec, raw.inputs, rows=rows, time_steps=time_steps)
        invalid = invalid_rows(spec, arranged, lengths)
        return TokenizedSequences(
            lengths, arranged, {row: why for row, why in invalid.items() if lengths[row]}
        )
    if raw.inputs or raw.lengths is not None:
        raise ServiceError(Reason.BAD_REQUEST, "expected a text or tensors of a sequence; got both")
    if codec is None:
        raise ServiceError(Reason.WRONG_CALL, "the model has no vocabulary: send tensors instead of text")
    if len(raw.text) != rows:
        raise ServiceError(Reason.BAD_REQUEST, f"expected {rows} texts; got {len(raw.text)}")
    first = [] if codec.begin is None or not begin else [codec.begin]
    failures: dict[int, str] = {}
    tokens = []
    for row, text in enumerate(raw.text):
        try:
            tokens.append(np.concatenate([np.array(first, np.int64), codec.read(text)]))
        except TextError as error:
            failures[row] = str(error)
            tokens.append(np.empty(0, np.int64))
    lengths = np.array([len(row) for row in tokens], np.uint32)
    return TokenizedSequences(lengths, _tokens_alone(spec, np.concatenate(tokens), lengths), failures)


def tokenize_prompts(
    spec: ModelSpec, codec: Codec | None, condition: RawSequences, prompt: RawSequences, *, rows: int
) -> TokenizedSequences:
    """What rows consume before they generate: one time step of a condition or begin token, then a prompt.

    The begin token goes before texts, and where there is neither condition nor prompt; tensors are taken as
    they are.

    Args:
        spec: Of the read graph.
        codec: Of its text.
        condition: One time step a row, inputs [rows, ...], or names of conditions; nothing for an
            encoder-decoder, where the encoder has read it.
        prompt: May be nothing.
        rows: How many.

    Raises:
        ServiceError: as read_sequences.
    """
    sequences = _nothing(spec, rows)
    if prompt:
        sequences = tokenize_sequences(spec, codec, prompt, rows=rows)
    if condition:
        first = _conditions(spec, codec, condition, rows)
        failures = {**first.failures, **sequences.failures}
        begun = np.ones(rows, np.bool_)
    elif codec is not None and codec.begin is not None:
        first = TokenizedSequences(
            np.ones(rows, np.uint32), _tokens_alone(spec, np.full(rows, codec.begin)), {}
        )
        failures = sequences.failures
        begun = np.ones(rows, np.bool_) if prompt.text is not None else sequences.lengths == 0
    else:
        return sequences
    lengths = sequences.lengths + begun.astype(np.uint32)
    inputs = [
        _joined(one, many, begun, lengths) if entry.per_step else (many if prompt.inputs else one)
        for one, many, entry in zip(first.inputs, sequences.inputs, spec.inputs, strict=True)
    ]
    return TokenizedSequences(lengths, inputs, failures)


def begin_inputs(spec: ModelSpec, token: int, rows: int) -> list[Array]:
    """One time step of a begin token for each row."""
    return _tokens_alone(spec, np.full(rows, token))


def _conditions(
    spec: ModelSpec, codec: Codec | None, condition: RawSequences, rows: int
) -> TokenizedSequences:
    one_each = np.ones(rows, np.uint32)
    if condition.text is None:
        if condition.lengths is not None:
            raise ServiceError(
                Reason.BAD_REQUEST, "condition_lengths are for an encoder's input; there is none"
            )
        return tokenize_sequences(spec, codec, RawSequences(condition.inputs, one_each), rows=rows)
    if codec is None:
        raise ServiceError(Reason.WRONG_CALL, "the model has no vocabulary: send the condition as tensors")
    if condition.inputs:
        raise ServiceError(Reason.BAD_REQUEST, "expected condition or condition_text; got both")
    names = list(condition.text) * rows if len(condition.text) == 1 else list(condition.text)
    if len(names) != rows:
        raise ServiceError(Reason.BAD_REQUEST, f"expected 1 or {rows} conditions; got {len(names)}")
    tokens, failures = np.zeros(rows, np.int64), {}
    for row, name in enumerate(names):
        try:
            tokens[row] = codec.condition(name)
        except TextError as error:
            failures[row] = str(error)
    return TokenizedSequences(one_each, _tokens_alone(spec, tokens), failures)


def _nothing(spec: ModelSpec, rows: int) -> TokenizedSequences:
    empty = [
        np.empty((0, *entry.shape), DTYPES[entry.dtype]) if entry.per_step else _default(entry, rows)
        for entry in spec.inputs
    ]
    return TokenizedSequences(np.zeros(rows, np.uint32), empty, {})


def _tokens_alone(spec: ModelSpec, tokens: Array, lengths: Lengths | None = None) -> list[Array]:
    """All inputs, of which the first that takes tokens is given: [sum(lengths)], 1 each without lengths."""
    rows = len(tokens) if lengths is None else len(lengths)
    taken = next((entry for entry in spec.inputs if entry.vocabulary_size is not None), spec.inputs[0])
    return [
        tokens.astype(DTYPES[entry.dtype])
        if entry is taken
        else _default(entry, len(tokens) if entry.per_step else rows)
        for entry in spec.inputs
    ]


def _default(entry: TensorSpec, count: int) -> Array:
    if entry.default is None:
        raise ServiceError(Reason.BAD_TENSOR, f"input {entry.name!r} is missing")
    return np.full((count, *entry.shape), entry.default, DTYPES[entry.dtype])


def _joined(one: Array, many: Array, begun: NDArray[np.bool_], lengths: Lengths) -> Array:
    """One value in front of the sequence of each row that is begun."""
    joined = np.empty((int(lengths.sum(dtype=np.int64)), *many.shape[1:]), many.dtype)
    fronts = starts_of(lengths)[begun]
    rest = np.ones(len(joined), np.bool_)
    rest[fronts] = False
    joined[fronts] = one[begun]
    joined[rest] = many
    return joined
