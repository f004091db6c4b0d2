"""Treats missing values and missing steps of a sequence as the recipe says: refused, filled or left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from statewise.models.base import Array, Floats, RecipeError

MissingRule = Literal["refuse", "previous", "interpolate", "drop"]

_OTHER_RULES = "data.missing can be previous, interpolate or drop"

Where = Callable[[int, str], str]
"""Names the place of a value, by its row in the sequence and its column."""

# An interval longer than this many usual ones is a gap.
_GAP = 1.5
# More steps to fill in than this many times those of the file: the times are not those of a recording.
_MOST_GROWTH = 10
_MOST_STEPS = 1e12  # in a gap; keeps their sum in range


def complete(path: Path, values: Floats, names: Sequence[str], rule: MissingRule, where: Where) -> Floats:
    """Fills or drops the missing values of a sequence.

    Args:
        path: The file, for messages.
        values: [T, I]; NaN where a value is missing.
        names: Names of the I columns.
        rule: What to do about them.
        where: For messages.

    Raises:
        RecipeError: A value is missing and the rule is "refuse", or nothing is there to fill it with.
    """
    missing = np.isnan(values)
    if not missing.any():
        return values
    if rule == "refuse":
        row, first = (int(index) for index in np.argwhere(missing)[0])
        raise RecipeError(path, f"{where(row, names[first])}: a value is missing; {_OTHER_RULES}")
    if rule == "drop":
        return values[~missing.any(axis=1)]
    if rule == "previous" and missing[0].any():
        first = int(missing[0].argmax())
        raise RecipeError(
            path, f"{where(0, names[first])}: a value is missing, and none is before it in its sequence"
        )
    filled = values.copy()
    rows = np.arange(len(values))
    for column in map(int, np.flatnonzero(missing.any(axis=0))):
        known = rows[~missing[:, column]]
        if not len(known):
            raise RecipeError(path, f"{where(0, names[column])}: all values of the sequence are missing")
        if rule == "previous":
            filled[:, column] = values[known[np.searchsorted(known, rows, side="right") - 1], column]
        else:
            filled[:, column] = np.interp(rows, known, values[known, column])
    return filled


def with_gaps(path: Path, values: Floats, times: Array, name: str, rule: MissingRule, where: Where) -> Floats:
    """Inserts rows of NaN where a sequence's times leave steps out; changes nothing with the rule "drop".

    Args:
        path: The file, for messages.
        values: [T, I].
        times: [T].
        name: Name of the column with the times.
        rule: What to do about missing steps.
        where: For messages.

    Raises:
        RecipeError: The times do not rise, or steps are missing and the rule is "refuse".
    """
    intervals = np.diff(times)
    for row in np.flatnonzero(~(intervals > 0))[:1]:
        raise RecipeError(
            path, f"{where(int(row) + 1, name)}: expected a later time than that of the row before"
        )
    if rule == "drop" or not len(intervals):
        return values
    usual = float(np.median(intervals))
    steps = np.where(intervals > _GAP * usual, np.rint(intervals / usual).clip(max=_MOST_STEPS), 1).astype(
        np.int64
    )
    for row in np.flatnonzero(steps > 1)[:1]:
        count = int(steps[row]) - 1
        if rule == "refuse":
            raise RecipeError(
                path,
                f"{where(int(row) + 1, name)}: {count:,} {'steps are' if count > 1 else 'step is'} missing "
                f"before this row, by the usual interval of {usual:g}; {_OTHER_RULES}",
            )
    if steps.sum() > _MOST_GROWTH * len(values):
        raise RecipeError(path, f"{name}: far more steps are missing than there are")
    spread = np.full((int(steps.sum()) + 1, values.shape[1]), np.nan, np.float32)
    spread[np.concatenate([[0], np.cumsum(steps)])] = values
    return spread
