"""Writes and reads JSON: strictly, so without NaN and Infinity; what cannot be read is one kind of error."""

import json
import math
import sys
from typing import Any

NOT_FINITE = "not_finite"
"""Key of an object with the count of its numbers that are null because they are not finite, if any."""

_LONGEST_EXCERPT = 60


def to_json(value: Any) -> tuple[str, int]:
    """Writes a value on one line.

    Args:
        value: Of dictionaries, lists, texts, numbers, booleans and None.

    Returns:
        The line, with null for every number that is not finite, and the count of these numbers.
    """
    try:
        text, count = _dumps(value), 0
    except ValueError:
        value, count = without_not_finite(value)
        text = _dumps(value)
    return text, count


def without_not_finite(value: Any) -> tuple[Any, int]:
    """Replaces every number that is not finite by None; returns the new value, and the count of them."""
    finite = _Finite()
    return finite.of(value), finite.count


def print_json(value: dict[str, Any]) -> None:
    """Writes one JSON object on one line of stdout and flushes.

    Numbers that are not finite are null; the key `not_finite` then counts them.
    """
    text, count = to_json(value)
    if count:
        text, _ = to_json({**value, NOT_FINITE: count})
    print(text, flush=True)


def read_json_array(text: str) -> list[Any]:
    """Reads a JSON array of numbers or texts, nested to any depth that memory allows.

    Raises:
        ValueError: It is something else; the message names what was expected and what came.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"expected a JSON array; got {excerpt(text)} ({error})") from None
    except (RecursionError, ValueError) as error:  # nested too deeply; an integer of thousands of digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).partition(";")[0]
        raise ValueError(f"expected a JSON array; got {excerpt(text)} ({reason})") from None
    if not isinstance(value, list):
        raise ValueError(f"expected a JSON array; got {excerpt(text)}")
    _refuse_other_values(value)
    return value


def excerpt(text: str) -> str:
    """Returns the beginning of a text in quotes, for messages."""
    text = text.strip()
    return repr(text if len(text) <= _LONGEST_EXCERPT else text[: _LONGEST_EXCERPT - 3] + "...")


def _refuse_other_values(array: list[Any]) -> None:
    """Checks for what would silently become a number, or be called an object."""
    waiting = [*array]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif value is None:
            raise ValueError("expected numbers; a value is missing (null)")
        elif isinstance(value, bool | dict):
            raise ValueError(f"expected numbers; got {json.dumps(value)[:_LONGEST_EXCERPT]}")


def _dumps(value: Any) -> str:
    """Writes strict JSON; letters that stdout cannot write are escaped.

    Raises:
        ValueError: A number is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # another encoding, or half of a surrogate pair
        return json.dumps(value, allow_nan=False)
    return text


class _Finite:
    """Replaces and counts numbers that are not finite."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.of(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.of(inner) for inner in value]
        if isinstance(value, float) and not math.isfinite(value):
            self.count += 1
            return None
        return value
