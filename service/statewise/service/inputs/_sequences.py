"""Turns the sequences of a request, tensors or texts, into columns that a model can read.

A row that cannot be read fails alone; tensors of a wrong shape or type fail the request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, RaggedColumns, ServiceError
from statewise.service.inputs._text import Codec, TextError
from statewise.service.inputs._validation import arrange_inputs, default_input, invalid_rows
from statewise.wire import DTYPES, ModelSpec, Reason

Lengths = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class RawSequences:
    """Sequences as a request has them: tensors, texts, or neither.

    Attributes:
        inputs: By name: per-step [sum(lengths), ...], others [rows, ...].
        lengths: Time steps of each row; None: not in the request.
        text: One text a row; None: no texts.
    """

    inputs: Mapping[str, Array] = field(default_factory=dict)
    lengths: Lengths | None = None
    text: Sequence[str] | None = None

    def __bool__(self) -> bool:
        return bool(self.inputs) or self.lengths is not None or self.text is not None


@dataclass(frozen=True, slots=True)
class TokenizedSequences:
    """Sequences that a model can read.

    Attributes:
        columns: The model's inputs, with lengths; a length of 0: nothing to read.
        failures: Why a row cannot be read, by row.
    """

    columns: RaggedColumns
    failures: dict[int, str]

    @property
    def lengths(self) -> Lengths:
        """Time steps of each row, uint32 [rows]."""
        return np.asarray(self.columns.lengths, np.uint32)


def tokenize_sequences(
    spec: ModelSpec,
    codec: Codec | None,
    raw: RawSequences,
    *,
    rows: int,
    begin: NDArray[np.bool_] | bool = False,
    end: bool = False,
) -> TokenizedSequences:
    """Reads sequences of the lengths that the request gives them.

    Args:
        spec: Spec of the graph that reads them.
        codec: Codec of its text; None: it takes no text.
        raw: The sequences; texts are of the first input that takes tokens.
        rows: Number of rows.
        begin: Whether texts start with the begin token, where the vocabulary has one; [rows], or for all.
        end: Whether a text ends with the end token, where the vocabulary has one.

    Raises:
        ServiceError: BAD_TENSOR, BAD_REQUEST; WRONG_CALL for texts without a vocabulary.
    """
    if raw.text is None:
        return _checked_tensors(spec, raw, rows)
    if raw.inputs or raw.lengths is not None:
        raise ServiceError(Reason.BAD_REQUEST, "expected a text or tensors of a sequence; got both")
    if codec is None:
        raise ServiceError(Reason.WRONG_CALL, "the model has no vocabulary: send tensors instead of text")
    if len(raw.text) != rows:
        raise ServiceError(Reason.BAD_REQUEST, f"expected {rows} texts; got {len(raw.text)}")
    first = [[codec.begin] if own and codec.begin is not None else [] for own in np.broadcast_to(begin, rows)]
    last = [] if codec.end is None or not end else [codec.end]
    failures: dict[int, str] = {}
    tokens = []
    for row, text in enumerate(raw.text):
        try:
            read = codec.read(text)
            own_last = last if len(read) else []  # an empty text stays one of no time steps
            tokens.append(
                np.concatenate([np.array(first[row], np.int64), read, np.array(own_last, np.int64)])
            )
        except TextError as error:
            failures[row] = str(error)
            tokens.append(np.empty(0, np.int64))
    lengths = np.array([len(row) for row in tokens], np.uint32)
    return TokenizedSequences(token_columns(spec, np.concatenate(tokens), lengths), failures)


def _checked_tensors(spec: ModelSpec, raw: RawSequences, rows: int) -> TokenizedSequences:
    lengths = np.zeros(rows, np.uint32) if raw.lengths is None else raw.lengths
    if len(lengths) != rows:
        raise ServiceError(Reason.BAD_REQUEST, f"expected {rows} lengths; got {len(lengths)}")
    time_steps = int(lengths.sum(dtype=np.int64))
    arranged = arrange_inputs(spec, raw.inputs, rows=rows, time_steps=time_steps)
    invalid = invalid_rows(spec, arranged, lengths)
    failures = {row: why for row, why in invalid.items() if lengths[row]}
    return TokenizedSequences(RaggedColumns(spec.inputs, arranged, lengths), failures)


def token_columns(spec: ModelSpec, tokens: Array, lengths: Lengths) -> RaggedColumns:
    """Makes columns of token sequences: `tokens` [sum(lengths)] for the first input that takes tokens.

    The other inputs hold their defaults.

    Raises:
        ServiceError: BAD_TENSOR: another input has no default.
    """
    taken = next((entry for entry in spec.inputs if entry.vocabulary_size is not None), spec.inputs[0])
    arrays = [
        tokens.astype(DTYPES[entry.dtype])
        if entry is taken
        else default_input(entry, len(tokens) if entry.per_step else len(lengths))
        for entry in spec.inputs
    ]
    return RaggedColumns(spec.inputs, arrays, lengths)


def single_tokens(spec: ModelSpec, tokens: Array) -> TokenizedSequences:
    """Makes sequences of one token each, [rows]. Raises as `token_columns`."""
    return TokenizedSequences(token_columns(spec, tokens, np.ones(len(tokens), np.uint32)), {})
