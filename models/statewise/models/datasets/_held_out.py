"""Counts the examples to hold out, and refuses a share that leaves a part empty."""

from __future__ import annotations

from pathlib import Path

from statewise.models.base import RecipeError


def held_out_count(count: int, fraction: float, *, source: str | Path, key: str, noun: str) -> int:
    """Counts the examples that a share of all examples comes to.

    Args:
        count: Number of all examples.
        fraction: The share; 0 holds nothing out.
        source: For messages.
        key: Key of the recipe, for messages.
        noun: What the examples are, in plural.

    Raises:
        RecipeError: No example would be held out, or none left to train on.
    """
    held = round(fraction * count)
    if fraction and not held:
        raise RecipeError(
            source, f"of {count} {noun}, this share is none; 0 holds none out", key=key, value=fraction
        )
    if held >= count:
        raise RecipeError(source, f"of {count} {noun}, this leaves none to train on", key=key, value=fraction)
    return held
