"""Writes arrays of outputs as JSON: floats with few digits, and null for what is not finite.

A float32 gets the fewest digits that read back as the same float32; as a Python number it would have the
digits of a double.
"""

import json
from typing import Any

from statewise.cli._terminal._json import without_not_finite


def short_lists(array: Any) -> Any:
    """Converts an array to nested lists of numbers that are written with few digits."""
    import orjson

    text = orjson.dumps(array, default=_other, option=orjson.OPT_SERIALIZE_NUMPY)
    return array.tolist() if b"null" in text else orjson.loads(text)


class LineWriter:
    """Writes objects that hold arrays as lines of JSON."""

    def __init__(self) -> None:
        import orjson

        self._dumps = orjson.dumps
        self._option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE

    def line(self, value: dict[str, Any]) -> tuple[bytes, int]:
        """Writes an object as a line.

        Args:
            value: Of dictionaries, lists, texts, numbers and arrays; anything else is written as its text.

        Returns:
            The line, and the count of numbers that are not finite, which are null.
        """
        try:
            line: bytes = self._dumps(value, default=_other, option=self._option)
        except TypeError:  # an integer of more than 64 bits, or half of a surrogate pair
            strict, count = without_not_finite(_lists(value))
            return json.dumps(strict, default=str, allow_nan=False).encode() + b"\n", count
        return line, without_not_finite(_lists(value))[1] if b"null" in line else 0


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _lists(inner) for key, inner in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value


def _other(value: Any) -> Any:
    """Turns what orjson does not write into what it writes."""
    if not hasattr(value, "tolist"):
        return str(value)
    if value.shape:
        return value.copy(order="C") if not value.flags.c_contiguous else value.tolist()
    return value[()] if value.dtype.kind == "f" else value.item()
