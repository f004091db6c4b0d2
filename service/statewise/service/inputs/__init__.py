"""Checks and arranges a caller's inputs: arrays, texts, prompts. Never sessions, runs or gRPC."""

from statewise.service.inputs._prompts import (
    RawSequences,
    TokenizedSequences,
    begin_inputs,
    tokenize_prompts,
    tokenize_sequences,
)
from statewise.service.inputs._text import Codec, TextWriter
from statewise.service.inputs._validation import all_valid, arrange_inputs, invalid_rows

__all__ = [
    "Codec",
    "RawSequences",
    "TextWriter",
    "TokenizedSequences",
    "all_valid",
    "arrange_inputs",
    "begin_inputs",
    "invalid_rows",
    "tokenize_prompts",
    "tokenize_sequences",
]
