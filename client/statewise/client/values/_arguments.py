"""Checks callers' arguments that are no inputs of a model: names, ids, versions, numbers, flags.

Each check names the argument, what was expected and what came. True and False are no numbers.
"""

import math
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from statewise.client.values._errors import InvalidInput

_LONGEST_S = 1e9
MOST_WHOLE = 2**63 - 1
"""For counts of Python, which neither the contract nor the server bounds."""
MOST_KEPT = 64
"""Requests of a session that can be taken back, at most."""
_GRPC_INTEGER = 2**31

_shortener = reprlib.Repr()
_shortener.maxstring = _shortener.maxother = 60


def brief(value: object) -> str:
    """Returns a value's repr in one line of moderate length."""
    return " ".join(_shortener.repr(value).split())


def wrong(name: str, expected: str, value: object) -> InvalidInput:
    """Makes the error about an argument."""
    return InvalidInput(f"{name}: expected {expected}; got {brief(value)}")


def check_text(name: str, value: Any) -> None:
    """Raises InvalidInput for anything but a text that can be sent."""
    if not isinstance(value, str):
        raise wrong(name, "a text", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise wrong(name, "a text of whole characters", value) from None


def check_flag(name: str, value: Any) -> None:
    """Raises InvalidInput for anything but True and False."""
    if not isinstance(value, bool | np.bool_):
        raise wrong(name, "True or False", value)


def check_keep(value: Any) -> None:
    """Raises InvalidInput for anything but a flag, or a number of requests that a session may keep."""
    whole = isinstance(value, int | np.integer) and 1 <= value <= MOST_KEPT
    if not (whole or isinstance(value, bool | np.bool_)):
        raise wrong("keep", f"True, False or a whole number of requests from 1 to {MOST_KEPT}", value)


def check_place(value: Any) -> None:
    """Raises InvalidInput for anything but a position that a session can be taken back to."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not 0 <= value <= MOST_WHOLE:
        raise wrong("to", "the name of a checkpoint, a position or None", value)


def durability_number(value: Any) -> int:
    """Returns the number of a durability in the contract. Raises InvalidInput for anything else, but None."""
    numbers = {None: 0, "interval": 1, "reply": 2}
    if not (value is None or isinstance(value, str)) or value not in numbers:
        raise wrong("durability", 'None, "interval" or "reply"', value)
    return numbers[value]


def check_session_state(value: Any) -> None:
    """Raises InvalidInput for anything but a place where sessions are, or None."""
    if not (value is None or (isinstance(value, str) and value in ("awake", "asleep"))):
        raise wrong("state", 'None, "awake" or "asleep"', value)


def check_whole(name: str, value: Any, least: int, most: int) -> None:
    """Raises InvalidInput for anything but a whole number in a range."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not (whole and least <= value <= most):
        raise wrong(name, f"a whole number from {least} to 2**{most.bit_length()} - 1", value)


def check_real(name: str, value: Any) -> None:
    """Raises InvalidInput for anything but a finite number of 0 or more."""
    if not (_is_real(value) and value >= 0 and math.isfinite(value)):
        raise wrong(name, "a number of at least 0", value)


def check_seconds(name: str, value: Any) -> None:
    """Raises InvalidInput for anything but a number of seconds above 0."""
    if not (_is_real(value) and 0 < value <= _LONGEST_S):
        raise wrong(name, f"more than 0 s, at most {_LONGEST_S:g} s", value)


def check_iterable(name: str, value: Any) -> None:
    """Raises InvalidInput for what cannot be iterated over."""
    try:
        iter(value)
    except TypeError:
        raise wrong(name, "an iterable of time steps", value) from None


def check_ids(value: Any) -> None:
    """Raises InvalidInput for anything but a list of ids, at least one, of which no two are alike."""
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str | bytes):
        raise wrong("ids", "a list of texts (session(id=) opens a single session)", value)
    if not len(value):
        raise wrong("ids", "at least one", value)
    for number, each in enumerate(value):
        check_text(f"ids, number {number}", each)
    if len(set(value)) != len(value):
        twice = next(each for each, times in Counter(value).items() if times > 1)
        raise InvalidInput(f"ids: expected every id once; {twice!r} stands twice")


def check_path(name: str, value: Any) -> None:
    """Raises InvalidInput for anything but a path or None."""
    if not (value is None or isinstance(value, str | Path)):
        raise wrong(name, "the path of a file", value)


def check_model(name: Any, version: Any) -> None:
    """Raises InvalidInput for a name or version that no model can have."""
    check_text("model", name)
    if version is not None:
        check_whole("version", version, 0, 2**32 - 1)


def check_channel_options(value: Any) -> None:
    """Raises InvalidInput for anything but options that gRPC takes."""
    if not isinstance(value, Mapping):
        raise wrong("channel_options", "a dict of options by name", value)
    for name, option in value.items():
        check_text("channel_options, a name", name)
        if isinstance(option, str):
            check_text(f"channel_options, {name!r}", option)
        elif isinstance(option, bool) or not (
            isinstance(option, int) and -_GRPC_INTEGER <= option < _GRPC_INTEGER
        ):
            raise wrong(f"channel_options, {name!r}", "a text or a whole number of 32 bits", option)


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
