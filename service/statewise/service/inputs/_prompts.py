"""Builds prompts: what each row of a generation consumes before it emits anything, as one sequence a row.

A prompt starts with one time step of a condition or a begin token. A row that cannot be read fails alone.
"""

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, RaggedColumns, ServiceError, offsets_in_rows, starts_of
from statewise.service.inputs._sequences import (
    Lengths,
    RawSequences,
    TokenizedSequences,
    single_tokens,
    tokenize_sequences,
)
from statewise.service.inputs._text import Codec, TextError
from statewise.service.inputs._validation import default_input
from statewise.wire import DTYPES, GenerateSpec, ModelSpec, Reason


def tokenize_prompts(
    spec: ModelSpec,
    codec: Codec | None,
    condition: RawSequences,
    prompt: RawSequences,
    *,
    rows: int,
    begins: NDArray[np.bool_],
) -> TokenizedSequences:
    """Builds prompts with their conditions or begin tokens in front.

    The begin token goes in front of texts, and of rows with neither condition nor prompt, but not in front of
    tensors.

    Args:
        spec: Spec of the read graph.
        codec: Codec of its text; None: it takes no text.
        condition: One time step a row, inputs [rows, ...], or names of conditions. Empty for an
            encoder-decoder, whose encoder reads the condition.
        prompt: The prompts; may be empty.
        rows: Number of rows.
        begins: Rows that have consumed nothing before, [rows]; no begin token goes in front of the others.

    Raises:
        ServiceError: as tokenize_sequences.
    """
    sequences = tokenize_sequences(spec, codec, prompt, rows=rows) if prompt else _empty(spec, rows)
    if condition:
        first = _conditions(spec, codec, condition, rows)
        has_first = np.ones(rows, np.bool_)
    elif codec is not None and codec.begin is not None:
        first = single_tokens(spec, np.full(rows, codec.begin))
        has_first = begins if prompt.text is not None else begins & (sequences.lengths == 0)
    else:
        return sequences
    lengths = sequences.lengths + has_first.astype(np.uint32)
    arrays = [
        _prepended(one, many, has_first, lengths) if entry.per_step else (many if prompt.inputs else one)
        for one, many, entry in zip(first.columns.arrays, sequences.columns.arrays, spec.inputs, strict=True)
    ]
    failures = {**first.failures, **sequences.failures}
    return TokenizedSequences(RaggedColumns(spec.inputs, arrays, lengths), failures)


def continue_prompts(
    spec: ModelSpec, generate: GenerateSpec, prompts: TokenizedSequences, emitted: Array, lengths: Lengths
) -> TokenizedSequences:
    """Puts values that rows have emitted behind their prompts, as the inputs that consume them.

    Args:
        spec: Spec of the read graph.
        generate: What the model emits, and which input consumes it.
        prompts: The prompts, a row each.
        emitted: The values, [sum(lengths), ...].
        lengths: Number of values of each row, [rows].

    Raises:
        ServiceError: BAD_TENSOR, BAD_REQUEST.
    """
    if emitted.dtype != DTYPES[generate.emitted.dtype]:
        raise ServiceError(
            Reason.BAD_TENSOR, f"emitted: expected {generate.emitted.dtype}; got {emitted.dtype}"
        )
    rows = len(prompts.lengths)
    taken = next(entry for entry in spec.inputs if entry.name == generate.input)
    inputs = {taken.name: emitted.astype(DTYPES[taken.dtype])}
    behind = tokenize_sequences(spec, None, RawSequences(inputs, lengths), rows=rows)
    total = prompts.lengths + lengths
    is_prompt = offsets_in_rows(total) < np.repeat(prompts.lengths, total)
    arrays = []
    for before, after, entry in zip(prompts.columns.arrays, behind.columns.arrays, spec.inputs, strict=True):
        if entry.per_step:
            joined = np.empty((len(is_prompt), *before.shape[1:]), before.dtype)
            joined[is_prompt], joined[~is_prompt] = before, after
            before = joined
        arrays.append(before)
    failures = {**behind.failures, **prompts.failures}
    return TokenizedSequences(RaggedColumns(spec.inputs, arrays, total), failures)


def _conditions(
    spec: ModelSpec, codec: Codec | None, condition: RawSequences, rows: int
) -> TokenizedSequences:
    """Makes conditions of one time step a row."""
    if condition.text is None:
        if condition.lengths is not None:
            raise ServiceError(
                Reason.BAD_REQUEST, "condition_lengths are for an encoder's input; there is none"
            )
        one_each = np.ones(rows, np.uint32)
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
    return TokenizedSequences(single_tokens(spec, tokens).columns, failures)


def _empty(spec: ModelSpec, rows: int) -> TokenizedSequences:
    """Makes rows of no time steps. Raises ServiceError (BAD_TENSOR) for an input a row without default."""
    arrays = [
        np.empty((0, *entry.shape), DTYPES[entry.dtype]) if entry.per_step else default_input(entry, rows)
        for entry in spec.inputs
    ]
    return TokenizedSequences(RaggedColumns(spec.inputs, arrays, np.zeros(rows, np.uint32)), {})


def _prepended(one: Array, many: Array, has_first: NDArray[np.bool_], lengths: Lengths) -> Array:
    """Puts an element of `one` [rows, ...] in front of each row that has a first element.

    Args:
        one: First elements.
        many: The rows' other elements.
        has_first: Rows that get a first element, [rows].
        lengths: Elements of each row in the result, [rows].
    """
    joined = np.empty((int(lengths.sum(dtype=np.int64)), *many.shape[1:]), many.dtype)
    fronts = starts_of(lengths)[has_first]
    rest = np.ones(len(joined), np.bool_)
    rest[fronts] = False
    joined[fronts] = one[has_first]
    joined[rest] = many
    return joined
