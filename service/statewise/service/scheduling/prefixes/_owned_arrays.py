"""Keeps arrays beyond a request without keeping much more of it in memory."""

import numpy as np

from statewise.service.base import Array

_MOST = 2
"""An array is copied where more than so many times its bytes would stay in memory with it."""


def owned(array: Array) -> Array:
    """Returns an array with the same elements that holds at most twice its bytes in memory."""
    whole: object = array
    while isinstance(whole, np.ndarray) and whole.base is not None:
        whole = whole.base
    size = whole.nbytes if isinstance(whole, np.ndarray | memoryview) else _size_of(whole)
    return array if size <= _MOST * array.nbytes else array.copy()


def _size_of(whole: object) -> float:
    return len(whole) if isinstance(whole, bytes | bytearray) else float("inf")
