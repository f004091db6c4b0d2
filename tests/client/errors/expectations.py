"""Checks exceptions: their class, what they found, and what they advise."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import pytest

from statewise.client import StatewiseError

Kind = TypeVar("Kind", bound=StatewiseError)

SAMPLE = np.zeros(3, np.float32)
"""One time step of the small models."""


@contextmanager
def raises(kind: type[Kind], found: str, advice: str) -> Iterator[pytest.ExceptionInfo[Kind]]:
    """Expects exactly this class, with `found` (a pattern) and `advice` in the message."""
    with pytest.raises(kind, match=found) as caught:
        yield caught
    assert type(caught.value) is kind
    assert advice in str(caught.value), str(caught.value)
