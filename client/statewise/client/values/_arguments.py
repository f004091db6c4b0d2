"""Checks callers' arguments that are no inputs of a model: names, ids, versions, numbers."""

import math
import reprlib
from typing import Any

import numpy as np

from statewise.client.values._errors import InvalidInput

_LONGEST_S = 1e9


_shortener = reprlib.Repr()
_shortener.maxstring = _shortener.maxother = 60


def brief(value: object) -> str:
    """Returns a value's repr in one line of moderate length."""
    return " ".join(_shortener.repr(value).split())


def check_text(what: str, value: Any) -> None:
    """Raises InvalidInput for anything but a text that can be sent."""
    if not isinstance(value, str):
        raise InvalidInput(f"expected {what} as a text; got {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"expected {what} as a text of whole characters; got {value!r}") from None


def check_whole(what: str, value: Any, least: int, most: int) -> None:
    """Raises InvalidInput for anything but a whole number in a range."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not (whole and least <= value <= most):
        bounds = f"{least} to {_named(most)}" if least == 0 else f"at least {least}"
        raise InvalidInput(f"expected {what} of {bounds}; got {value!r}")


def check_real(what: str, value: Any) -> None:
    """Raises InvalidInput for anything but a finite number of 0 or more."""
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not (real and value >= 0 and math.isfinite(value)):
        raise InvalidInput(f"expected {what} of at least 0; got {value!r}")


def check_timeout(value: Any) -> None:
    """Raises InvalidInput for anything but a number of seconds above 0."""
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not (real and 0 < value <= _LONGEST_S):
        raise InvalidInput(f"expected a timeout of more than 0 s, at most {_LONGEST_S:g} s; got {value!r}")


def check_model(name: Any, version: Any) -> None:
    """Raises InvalidInput for a name or version that no model can have."""
    check_text("a model's name", name)
    if version is not None:
        check_whole("a version", version, 0, 2**32 - 1)


def _named(number: int) -> str:
    bits = number.bit_length()
    return f"2**{bits} - 1" if bits > 20 and number == 2**bits - 1 else str(number)
