"""Feeds networks their own outputs: draws tokens, continues series; knows no text and no random generator."""

from statewise.models.generation._sampling import draw_tokens, uniform_numbers
from statewise.models.generation._tokens import Generated, generate_tokens
from statewise.models.generation._values import generate_values

__all__ = ["Generated", "draw_tokens", "generate_tokens", "generate_values", "uniform_numbers"]
