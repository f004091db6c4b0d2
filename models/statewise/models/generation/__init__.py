"""Feeds networks their own outputs: draws tokens, continues series; no text, no random generator."""

from statewise.models.generation._generate import (
    Generated,
    draw_tokens,
    generate_tokens,
    generate_values,
    uniform_numbers,
)

__all__ = ["Generated", "draw_tokens", "generate_tokens", "generate_values", "uniform_numbers"]
