"""Checks and arranges a caller's inputs: arrays, texts, prompts. Knows no sessions, runs or gRPC."""

from statewise.service.inputs._buckets import buckets_of_like_length
from statewise.service.inputs._given_states import GivenStates, rows_with_bits_of
from statewise.service.inputs._prompts import continue_prompts, tokenize_prompts
from statewise.service.inputs._sequences import (
    Lengths,
    RawSequences,
    TokenizedSequences,
    single_tokens,
    tokenize_sequences,
)
from statewise.service.inputs._text import Codec, TextWriter
from statewise.service.inputs._validation import all_valid, arrange_inputs, explain_fault, invalid_rows

__all__ = [
    "Codec",
    "GivenStates",
    "Lengths",
    "RawSequences",
    "TextWriter",
    "TokenizedSequences",
    "all_valid",
    "arrange_inputs",
    "buckets_of_like_length",
    "continue_prompts",
    "explain_fault",
    "invalid_rows",
    "rows_with_bits_of",
    "single_tokens",
    "tokenize_prompts",
    "tokenize_sequences",
]
