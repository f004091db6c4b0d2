"""Checks exceptions: their class, what they found, and what they advise."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from statewise.client import StatewiseError

SAMPLE = np.zeros(3, np.float32)
"""One time step of the small models."""


@contextmanager
def raises(
    kind: type[StatewiseError], found: str, advice: str
) -> Iterator[pytest.ExceptionInfo[StatewiseError]]:
    """Expects exactly this class, with `found` (a pattern) and `advice` in the message."""
    with pytest.raises(kind, match=found) as caught:
        yield caught
    assert type(caught.value) is kind
    assert advice in str(caught.value), str(caught.value)
