"""Checks and arranges a caller's inputs: arrays, texts, prompts. Knows no sessions, runs or gRPC."""

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
    "Lengths",
    "RawSequences",
    "TextWriter",
    "TokenizedSequences",
    "all_valid",
    "arrange_inputs",
    "continue_prompts",
    "explain_fault",
    "invalid_rows",
    "single_tokens",
    "tokenize_prompts",
    "tokenize_sequences",
]
